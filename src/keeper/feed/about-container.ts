import { readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import type { IdExtent } from '../../abi/id-map.ts'
import { explain, why } from '../../calls/reason.ts'
import { PREFIX } from '../../policy/key.ts'
import { callOf, keyNames } from '../../policy/key-names.ts'
import { formatOrigin } from '../../policy/key-value-lines.ts'
import type { Settings } from '../../policy/settings.ts'
import type { RuntimeCall } from '../../runtimes/exec.ts'
import { saidNames } from '../containers/annotations.ts'
import type { ContainerEntry } from '../containers/registry.ts'
import { registrationWarnings } from '../log/registration-warnings.ts'
import type { KeeperEvent, Traps } from '../process/events.ts'

type Registered = Extract<KeeperEvent, { type: 'registered' }>
type Resumed = Extract<KeeperEvent, { type: 'resumed' }>

/** Ids are 64 characters at most engines; the runtime is trusted, but not with the memory of all. */
const ID_LIMIT = 1024

const extents = (map: readonly IdExtent[]): readonly (readonly number[])[] =>
  map.map(({ inside, outside, count }) => [inside, outside, count])

const listed = (traps: Traps | undefined): readonly string[] | 'unknown' =>
  traps === undefined || traps === 'unknown' ? 'unknown' : [...traps].sort()

/** Returns each key with its value, who gave it, its ceiling if there is one, and what was asked for above that. */
const keysOf = (settings: Settings): object =>
  Object.fromEntries(
    [...settings].map(([name, { text, origin, ...from }]) => [
      name,
      { value: text, origin: formatOrigin(origin), ...from },
    ]),
  )

/** Lists the calls that are on. */
const onOf = (settings: Settings): readonly string[] =>
  keyNames.filter((name) => callOf(name) === name && settings.get(name)?.text === 'true')

/** Returns what is known of a container from itself, whoever has admitted it. */
function standing({ container, handover, settings, set, init, listeners }: ContainerEntry): Record<string, unknown> {
  const { index, serial, id, uidMap, gidMap, initTid, barred } = container
  const { annotations, bundle } = handover
  return {
    ...{ id: id.slice(0, ID_LIMIT), index, serial, ...saidNames(annotations), listeners },
    ...{ init: initTid, bundle, on: onOf(settings), keys: keysOf(settings) },
    annotations: Object.fromEntries(Object.entries(annotations).filter(([name]) => name.startsWith(PREFIX))),
    idMaps: { uid: extents(uidMap), gid: extents(gidMap) },
    ...(init?.handles.cgroup ? { cgroup: pathOf(init.handles.cgroup.raw) } : {}),
    ...(set.length > 0 ? { set } : {}),
    ...(barred ? { barred: { code: barred, ...explain(why(barred)) } } : {}),
  }
}

function pathOf(raw: number): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${raw}`)
  } catch {
    return undefined
  }
}

/** Returns what the directory says of a container that was handed over now. */
export const aboutRegistered = (
  entry: ContainerEntry,
  event: Registered,
  runtime: RuntimeCall | undefined,
): Record<string, unknown> => ({
  ...standing(entry),
  runtime: entry.handover.started !== undefined ? 'lxc' : runtime ? basename(runtime.program) : undefined,
  since: Date.now(),
  traps: listed(event.traps),
  withheld: event.withheld,
  warnings: registrationWarnings(event),
})

/** Returns what the directory says of a container whose policy was changed while it runs. */
export const aboutChanged = (
  entry: ContainerEntry,
  warnings: readonly string[],
  { set: _, ...before }: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> => ({ ...before, ...standing(entry), warnings })

/** Returns what the directory says of a container that the previous keeper has admitted. */
export const aboutResumed = (
  entry: ContainerEntry,
  event: Resumed,
  before: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> => ({
  ...standing(entry),
  ...{ runtime: before.runtime, since: before.since ?? Date.now(), traps: listed(event.traps) },
  ...{ withheld: before.withheld ?? [], warnings: before.warnings ?? [] },
})
