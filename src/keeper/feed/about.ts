import { readlinkSync } from 'node:fs'
import { uptime } from 'node:os'
import { basename } from 'node:path'
import type { IdExtent } from '../../abi/credentials.ts'
import { orElse } from '../../kernel/error.ts'
import { startTime } from '../../kernel/process.ts'
import { ticksPerSecond } from '../../kernel/system-info.ts'
import { PREFIX } from '../../policy/key.ts'
import { parseLines } from '../../policy/key-value-lines.ts'
import { callOf, keyNames } from '../../policy/keys.ts'
import type { Note } from '../../policy/resolve.ts'
import type { Settings } from '../../policy/settings.ts'
import type { RuntimeCall } from '../../runtimes/exec.ts'
import { explainBarred } from '../containers/admission.ts'
import { annotatedNames } from '../containers/annotations.ts'
import type { ContainerEntry } from '../containers/registry.ts'
import { keyState } from '../log/effective-keys.ts'
import { registrationWarnings } from '../log/event-log.ts'
import type { KeeperEvent, KeeperOptions, Traps } from '../process/events.ts'

/** Returns what a daemon reports about its process. An upgrade continues in the same process, with another program. */
export function aboutDaemon(): { readonly pid: number; readonly since: number; readonly reloaded: number } {
  const now = Date.now()
  const age = uptime() - (startTime('self') ?? 0) / ticksPerSecond()
  return { pid: process.pid, since: Math.round(now - 1000 * age), reloaded: Math.round(now - 1000 * process.uptime()) }
}

type Registered = Extract<KeeperEvent, { type: 'registered' }>
type Resumed = Extract<KeeperEvent, { type: 'resumed' }>

/** The longest id. Most engines use 64 characters. The runtime is trusted, but it must not use up memory. */
const ID_LIMIT = 1024

const extents = (map: readonly IdExtent[]): readonly (readonly number[])[] =>
  map.map(({ inside, outside, count }) => [inside, outside, count])

const listed = (traps: Traps | undefined): readonly string[] | 'unknown' =>
  traps === undefined || traps === 'unknown' ? 'unknown' : [...traps].sort()

/**
 * Returns each key with its value, its origin, its ceiling if there is one, and the requested value if that was above
 * it.
 */
const keysOf = (settings: Settings): object =>
  Object.fromEntries([...settings].map(([name, setting]) => [name, keyState(setting)]))

const onOf = (settings: Settings): readonly string[] =>
  keyNames.filter((name) => callOf(name) === name && settings.get(name)?.text === 'true')

/** Returns what a container itself tells, whichever keeper admitted it. */
function standing({
  container,
  handover,
  settings,
  profile = profileIn(handover.metadata),
  set,
  init,
  listeners,
  wrong,
}: ContainerEntry): Record<string, unknown> {
  const { index, serial, id, uidMap, gidMap, initTid, barred } = container
  const { annotations, bundle } = handover
  return {
    ...{ id: id.slice(0, ID_LIMIT), index, serial, ...annotatedNames(annotations), listeners },
    ...{
      init: initTid,
      started: init?.startedMs,
      bundle,
      profile,
      on: onOf(settings),
      ...(settings.get('mode')?.text === 'observe' ? { observes: true } : {}),
      keys: keysOf(settings),
    },
    annotations: Object.fromEntries(Object.entries(annotations).filter(([name]) => name.startsWith(PREFIX))),
    idMaps: { uid: extents(uidMap), gid: extents(gidMap) },
    ...(init?.handles.cgroup ? { cgroup: pathOf(init.handles.cgroup.raw) } : {}),
    ...(set.length > 0 ? { set } : {}),
    ...(barred ? { barred: { code: barred, ...explainBarred(barred, wrong) } } : {}),
  }
}

/** Returns the profile that the metadata names; undefined if it names none, or cannot be read. */
const profileIn = (metadata: string): string | undefined => orElse(undefined, () => parseLines(metadata).profile?.name)

const pathOf = (raw: number): string | undefined => orElse(undefined, () => readlinkSync(`/proc/self/fd/${raw}`))

/** Returns the directory's entry for a container that was just handed over. */
export const aboutRegistered = (
  entry: ContainerEntry,
  event: Registered,
  runtime: RuntimeCall | undefined,
  names: KeeperOptions['names'],
): Record<string, unknown> => ({
  ...standing(entry),
  ...names,
  runtime: entry.handover.isLate ? 'lxc' : runtime ? basename(runtime.program) : undefined,
  since: Date.now(),
  traps: listed(event.traps),
  withheld: event.withheld,
  warnings: registrationWarnings(event),
  ...(event.resolved.details.ignored ? { ignored: event.resolved.details.ignored } : {}),
})

/** Returns the directory's entry for a running container whose policy was changed. */
export const aboutChanged = (
  entry: ContainerEntry,
  flaws: Readonly<Record<'withheld' | 'warnings', readonly string[]>> & { readonly ignored: readonly Note[] },
  { set: _, barred: __, observes: ___, ...before }: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> => ({ ...before, ...standing(entry), ...flaws })

/** Names that were found in the state of an engine, which may be gone by now. */
const namesIn = ({ name, image, labels }: Readonly<Record<string, unknown>>): object => ({
  ...(name === undefined ? {} : { name, image, labels }),
})

/** Returns the directory's entry for a container that the previous keeper admitted. */
export const aboutResumed = (
  entry: ContainerEntry,
  event: Resumed,
  before: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> => ({
  ...namesIn(before),
  ...standing(entry),
  ...{ runtime: before.runtime, since: before.since ?? Date.now(), traps: listed(event.traps) },
  ...{ withheld: before.withheld ?? [], warnings: before.warnings ?? [] },
  ...(before.ignored ? { ignored: before.ignored } : {}),
})
