import type { Word } from '../calls/record.ts'
import type { ContainerCounts } from '../memories/read-counts.ts'
import type { RefusalView } from '../memories/refusal-view.ts'
import { type KeyName, keys } from '../policy/keys.ts'
import type { EngineNames } from '../runtimes/engine-names.ts'
import type { Entry } from './directory-reader.ts'

/** The facts from which a container's fields are made. */
interface ContainerFacts {
  /** The entry of the directory. */
  readonly about: Entry
  /** The container engine's name for it, if it has no name in the directory. */
  readonly names: EngineNames | undefined
  readonly counts: ContainerCounts | undefined
  readonly byVerdict: Readonly<Record<Word, number>>
  /** Half of the calls took at most this many microseconds; undefined without calls. */
  readonly p50: number | undefined
  /** The newest first. */
  readonly refusals: readonly RefusalView[]
}

/** What the directory says of a key of a container. */
export interface KeyEntry {
  readonly value: string
  readonly origin: string
  readonly ceiling?: string
  /** What was asked for, where that is above the ceiling. */
  readonly asked?: string
  /** What would hold without `intercede set`, if that gave the value. */
  readonly instead?: KeyEntry
}

/** Returns the keys that somebody gave a container other values than those by default; a ceiling gives none. */
export const keysGiven = ({ about }: Pick<ContainerView, 'about'>): ReadonlyMap<KeyName, string> =>
  new Map(
    (Object.entries(about.keys ?? {}) as [KeyName, KeyEntry][])
      .filter(([key, { value, origin }]) => key in keys && origin !== 'default' && value !== keys[key].default)
      .map(([key, { value }]) => [key, value]),
  )

/** Says what turns on a key that is off, by what it is off. */
export function turnOnBy({ origin, asked }: KeyEntry): string {
  if (asked !== undefined) return 'turn it on: it is off by the ceiling of the configuration'
  if (origin === 'default') return 'turn it on: off is the default'
  return `turn it on: it is off by ${origin === 'set' ? '"intercede set"' : `its ${origin}`}`
}

/** The kinds of fields; api/schemas.ts has the schema of each. */
export type FieldKind =
  | 'count'
  | 'microseconds'
  | 'time'
  | 'escaped'
  | 'state'
  | 'texts'
  | 'keys'
  | 'labels'
  | 'traps'
  | 'refusals'

/** A field of a container, for `ps`, `inspect`, their templates and JSON, and the API. */
export interface Field {
  /** The kind, for the API, which leaves out fields without one. */
  readonly is?: FieldKind
  /** Whether only lists (`ps`) or only the detail of one container (`inspect`) have the field. */
  readonly only?: 'list' | 'detail'
  readonly optional?: true
  /** The heading of the column in `ps`. */
  readonly column?: string
  /** Computes the value; without it, the value is the directory's member of this name. */
  readonly read?: (facts: ContainerFacts) => unknown
  /** The kind in the detail, where the directory's member of this name replaces the value. */
  readonly inDetail?: FieldKind
}

export const text = (value: unknown): string => (typeof value === 'string' ? value : '')
export const number = (value: unknown): number => (typeof value === 'number' ? value : 0)
const orAbsent = (value: unknown): string | undefined => text(value) || undefined
const podOf = ({ namespace, pod }: Entry): string =>
  [text(namespace), text(pod)].filter((word) => word !== '').join('/')

/** What an engine or `run` calls a container, as far as it is known. Whoever starts it chooses these texts. */
export interface ContainerNames extends EngineNames {
  readonly namespace?: string
  readonly pod?: string
}

/**
 * Returns the name by which people see a container and may mean it: `namespace/pod/name`, since many Pods have a
 * container of the same name.
 */
export function shownName({
  name = '',
  namespace = '',
  pod = '',
}: Partial<Record<keyof ContainerNames, unknown>>): string {
  if (namespace === '' && pod === '') return text(name)
  const ofPod = podOf({ namespace, pod })
  return [ofPod, name === ofPod ? '' : text(name)].filter((word) => word !== '').join('/')
}

type Named = { readonly [Name in keyof EngineNames]: EngineNames[Name] | undefined }
const labelsIn = ({ labels }: Entry, names: Named | undefined): EngineNames['labels'] =>
  (labels as EngineNames['labels']) ?? names?.labels

/**
 * Returns what names a container, for programs: members that are not known are missing.
 *
 * @param names what an engine says of it, if the directory says nothing
 */
export function namesOf(about: Entry, names?: Named): ContainerNames {
  const name = text(about.name) || names?.name || podOf(about)
  const image = text(about.image) || names?.image
  const all = { name, image, namespace: text(about.namespace), pod: text(about.pod), labels: labelsIn(about, names) }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== '' && value !== undefined))
}

/** What stands for the runtime of a container of LXC. */
export const LXC = 'lxc'

/** What stands for the runtime of a container of `intercede run`. */
export const RUN = 'run'

/**
 * `observed`: served in observe mode. `unknown`: the daemon cannot be asked, and history says only that the container
 * was there.
 */
type State = 'served' | 'observed' | 'left' | 'unserved' | 'unknown' | 'ended'
function stateOf({ ended, unserved, barred, observes }: Entry): State {
  if (ended !== undefined) return 'ended'
  if (unserved === true) return 'unserved'
  if (barred) return 'left'
  return observes === true ? 'observed' : 'served'
}

/** The fields of a container, in the order in which they are shown. A new field is a row here. */
export const CONTAINER_FIELDS = {
  id: { is: 'escaped', column: 'CONTAINER', read: ({ about }) => text(about.id) },
  serial: { is: 'count', read: ({ about }) => number(about.serial) },
  runtime: { is: 'escaped', column: 'RUNTIME', read: ({ about }) => text(about.runtime) },
  name: { is: 'escaped', column: 'NAME', read: ({ about, names }) => text(about.name) || names?.name || podOf(about) },
  image: {
    is: 'escaped',
    column: 'IMAGE',
    read: ({ about, names }) => text(about.image) || names?.image || podOf(about),
  },
  namespace: { is: 'escaped', optional: true, read: ({ about }) => orAbsent(about.namespace) },
  pod: { is: 'escaped', optional: true, read: ({ about }) => orAbsent(about.pod) },
  labels: { is: 'labels', optional: true, read: ({ about, names }) => labelsIn(about, names) },
  /** The command of `intercede run`. */
  command: { is: 'escaped', optional: true, column: 'COMMAND', read: ({ about }) => orAbsent(about.command) },
  pid: { is: 'count', column: 'PID', read: ({ about }) => number(about.init) },
  keys: { is: 'texts', column: 'KEYS', read: ({ about }) => (about.on ?? []) as readonly string[], inDetail: 'keys' },
  state: { is: 'state', column: 'STATE', read: ({ about }) => stateOf(about) },
  since: { is: 'time', only: 'detail', optional: true },
  ended: { is: 'time', only: 'detail', optional: true },
  bundle: { is: 'escaped', only: 'detail', optional: true },
  profile: { is: 'escaped', only: 'detail', optional: true },
  cgroup: { only: 'detail' },
  listeners: { is: 'count', only: 'detail', optional: true },
  annotations: { only: 'detail' },
  /** Annotations that did not do what they say, and why. */
  ignored: { only: 'detail', optional: true },
  idMaps: { only: 'detail' },
  traps: { is: 'traps', only: 'detail', optional: true },
  withheld: { only: 'detail' },
  warnings: { only: 'detail' },
  set: { only: 'detail' },
  barred: { only: 'detail' },
  cut: { only: 'detail' },
  calls: {
    is: 'count',
    column: 'CALLS',
    read: ({ byVerdict: { done, left, error, gone } }) => done + left + error + gone,
  },
  done: { is: 'count', column: 'DONE', read: ({ byVerdict }) => byVerdict.done },
  left: { is: 'count', column: 'LEFT', read: ({ byVerdict }) => byVerdict.left },
  errors: { is: 'count', column: 'ERRORS', read: ({ byVerdict }) => byVerdict.error },
  gone: { is: 'count', read: ({ byVerdict }) => byVerdict.gone },
  /** The calls are those until then. How many came later is not known: its daemon hangs, or had ended. */
  countedUntil: { is: 'time', optional: true, read: ({ about }) => about.countedUntil as number | undefined },
  /** From then on the next daemon has counted them: what is not known lies between the two. */
  countedAgain: { is: 'time', optional: true, read: ({ about }) => about.countedAgain as number | undefined },
  inFlight: { is: 'count', read: ({ counts }) => counts?.inFlight ?? 0 },
  /** Calls in flight that have taken longer than ten seconds. */
  stuck: { is: 'count', read: ({ counts }) => counts?.stuck ?? 0 },
  /** How many descriptors are kept for its later calls: contexts, mounts, programs. */
  kept: { is: 'count', read: ({ counts }) => counts?.kept ?? 0 },
  p50: { is: 'microseconds', optional: true, column: 'P50', read: ({ p50 }) => p50 },
  lastRefusal: {
    is: 'escaped',
    only: 'list',
    optional: true,
    column: 'LAST REFUSAL',
    read: ({ refusals: [last] }) => last?.call,
  },
  lastRefusalTime: { is: 'time', only: 'list', optional: true, read: ({ refusals: [last] }) => last?.time },
  /** Why a hand-over was refused. */
  message: { only: 'list' },
  refusals: { is: 'refusals', only: 'detail', read: ({ refusals }) => refusals },
  /** How many kinds of refusals have made room for later ones. */
  droppedRefusals: {
    is: 'count',
    only: 'detail',
    read: ({ about, counts }) => counts?.dropped ?? number(about.droppedRefusals),
  },
} as const satisfies Readonly<Record<string, Field>>

type Fields = typeof CONTAINER_FIELDS
type Made = { [Name in keyof Fields]: Fields[Name] extends { readonly read: unknown } ? Name : never }[keyof Fields]

/**
 * A container as people and programs see it. The container or its runtime has chosen the texts, and they are not
 * escaped.
 */
export type ContainerView = { readonly [Name in Made]: ReturnType<Fields[Name]['read']> } & {
  /** The entry of the directory: for a list only what lists need, otherwise everything. */
  readonly about: Entry
}

const rows = Object.entries<Field>(CONTAINER_FIELDS)
const namesWhere = (isWanted: (field: Field) => boolean): readonly string[] =>
  rows.filter(([, field]) => isWanted(field)).map(([name]) => name)

/** The names of the fields in a list, and of those in the detail of one container. */
export const LIST_FIELDS = namesWhere(({ only }) => only !== 'detail')
export const DETAIL_FIELDS = namesWhere(({ only }) => only !== 'list')
/** The fields of the detail whose values do not come from the directory. */
export const MADE_IN_DETAIL = namesWhere(
  ({ only, read, inDetail }) => only !== 'list' && read !== undefined && !inDetail,
)

const made = rows.flatMap(([name, { read }]) => (read ? [{ name, read }] : []))
const madeNames = made.map(({ name }) => name)
const makers = made.map(({ read }) => read)

/**
 * Makes the view of a container. A list has a thousand, most of them made before V8 has compiled this: hence the loop
 * with an index.
 */
export function viewOf(facts: ContainerFacts): ContainerView {
  const view: Record<string, unknown> = { about: facts.about }
  for (let index = 0; index < makers.length; index++) view[madeNames[index]!] = makers[index]!(facts)
  return view as unknown as ContainerView
}
