import type { VerdictName } from '../calls/record.ts'
import type { ContainerCounts } from '../memories/read-counts.ts'
import type { RefusalView } from '../memories/refusal-view.ts'
import type { Entry } from './directory-reader.ts'
import type { EngineNames } from './engine-names.ts'

/** What is known of a container, of which its fields are made. */
interface ContainerFacts {
  /** What the directory says. */
  readonly about: Entry
  /** What its container engine calls it, if it has no name in the directory. */
  readonly names: EngineNames | undefined
  readonly counts: ContainerCounts | undefined
  readonly byVerdict: Readonly<Record<VerdictName, number>>
  /** Half of the calls took at most so many microseconds; undefined without calls. */
  readonly p50: number | undefined
  /** The newest first. */
  readonly refusals: readonly RefusalView[]
}

/** What a field may be; api/schemas.ts has the schema of each. */
export type FieldKind =
  | 'count'
  | 'microseconds'
  | 'time'
  | 'escaped'
  | 'state'
  | 'texts'
  | 'keys'
  | 'traps'
  | 'refusals'

/** A field of a container, as `ps`, `inspect`, their templates and JSON, and the API have it. */
export interface Field {
  /** What the API says of it; it says nothing of a field without a kind. */
  readonly is?: FieldKind
  /** Whether only lists have it (`ps`), or only the detail of one container (`inspect`). */
  readonly only?: 'list' | 'detail'
  readonly optional?: true
  /** The heading of its column in `ps`. */
  readonly column?: string
  /** Its value; without it, it is what the directory says under this name. */
  readonly read?: (facts: ContainerFacts) => unknown
  /** What the detail has in place of the value: what the directory says under this name. */
  readonly inDetail?: FieldKind
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '')
const number = (value: unknown): number => (typeof value === 'number' ? value : 0)
const podOf = ({ namespace, pod }: Entry): string =>
  [text(namespace), text(pod)].filter((word) => word !== '').join('/')

type State = 'served' | 'left' | 'ended'
const stateOf = ({ ended, barred }: Entry): State => (ended !== undefined ? 'ended' : barred ? 'left' : 'served')

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
  pid: { is: 'count', column: 'PID', read: ({ about }) => number(about.init) },
  keys: { is: 'texts', column: 'KEYS', read: ({ about }) => (about.on ?? []) as readonly string[], inDetail: 'keys' },
  state: { is: 'state', column: 'STATE', read: ({ about }) => stateOf(about) },
  since: { is: 'time', only: 'detail', optional: true },
  ended: { is: 'time', only: 'detail', optional: true },
  bundle: { is: 'escaped', only: 'detail', optional: true },
  cgroup: { only: 'detail' },
  listeners: { is: 'count', only: 'detail', optional: true },
  annotations: { only: 'detail' },
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
    read: ({ byVerdict: { act, continue: left, errno, gone } }) => act + left + errno + gone,
  },
  done: { is: 'count', column: 'DONE', read: ({ byVerdict }) => byVerdict.act },
  left: { is: 'count', column: 'LEFT', read: ({ byVerdict }) => byVerdict.continue },
  errors: { is: 'count', column: 'ERRORS', read: ({ byVerdict }) => byVerdict.errno },
  gone: { is: 'count', read: ({ byVerdict }) => byVerdict.gone },
  inFlight: { is: 'count', read: ({ counts }) => counts?.inFlight ?? 0 },
  /** Those of them that are served for longer than ten seconds. */
  stuck: { is: 'count', read: ({ counts }) => counts?.stuck ?? 0 },
  /** Descriptors that are kept for it, so that it can go on with them: contexts, mounts, programs. */
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
  /** Of a hand-over that was refused. */
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

/** A container as people and programs see it. Its texts are as the container or its runtime has chosen them. */
export type ContainerView = { readonly [Name in Made]: ReturnType<Fields[Name]['read']> } & {
  /** What the directory says: of a list what it needs, else everything. */
  readonly about: Entry
}

const rows = Object.entries<Field>(CONTAINER_FIELDS)
const namesWhere = (isWanted: (field: Field) => boolean): readonly string[] =>
  rows.filter(([, field]) => isWanted(field)).map(([name]) => name)

/** The names of the fields that a list has of each container, and those of the detail of one. */
export const LIST_FIELDS = namesWhere(({ only }) => only !== 'detail')
export const DETAIL_FIELDS = namesWhere(({ only }) => only !== 'list')
/** Those of the detail whose values are not what the directory says. */
export const MADE_IN_DETAIL = namesWhere(
  ({ only, read, inDetail }) => only !== 'list' && read !== undefined && !inDetail,
)

const made = rows.flatMap(([name, { read }]) => (read ? [{ name, read }] : []))
const madeNames = made.map(({ name }) => name)
const makers = made.map(({ read }) => read)

/** Makes the view of a container. A list has a thousand, most before V8 has compiled this: hence the index. */
export function viewOf(facts: ContainerFacts): ContainerView {
  const view: Record<string, unknown> = { about: facts.about }
  for (let index = 0; index < makers.length; index++) view[madeNames[index]!] = makers[index]!(facts)
  return view as unknown as ContainerView
}
