import { fullName } from './key.ts'
import { LIMITS, type Limit, type LimitName } from './limits.ts'

/** The levels of the log, the lowest first. */
export const logLevels = ['debug', 'info', 'notice', 'warn', 'error'] as const
/** How much of a call's arguments is recorded: nothing, numbers and the kernel's names, or paths too. */
export const argumentModes = ['none', 'names', 'all'] as const
export const reloadModes = ['auto', 'manual'] as const

/** A key of the configuration file, as config.ts checks it and as help and pages present it. */
interface ConfigKey {
  /** The allowed values: completes the sentence "allowed is ...". */
  readonly allowed: string
  /** The default, in YAML; undefined if there is none. */
  readonly usually?: string
  /** An example value in YAML; a map has lines of its own. */
  readonly example: string
  /** The comment beside the key in the help of `serve`. */
  readonly help: string
  /** The description in the manual, in Markdown. */
  readonly says: string
}

/** The keys of `limits`: their descriptions say what happens beyond the limit. */
const limits = Object.fromEntries(
  Object.entries<Limit>(LIMITS).map(([name, { usually, from, to, must, example, what, help, reached }]) => [
    `limits.${name}`,
    {
      allowed: `a whole number from ${from} to ${to}${must === undefined ? '' : `, ${must}`}`,
      usually: `${usually}`,
      example: `${example}`,
      help,
      says: `The most ${what}. Beyond that, ${reached}`,
    },
  ]),
) as Readonly<Record<`limits.${LimitName}`, ConfigKey>>

/** Every key of the configuration file, in the order in which a file has them. */
export const CONFIG_KEYS = {
  default: {
    allowed: 'a map of keys',
    example: `${fullName('mknod')}: true`,
    help: 'for every container',
    says: 'Policy keys for every container, unless its profile, metadata or annotations say otherwise. Each key can have its short name, and a list can be a YAML list',
  },
  profiles: {
    allowed: 'a map of profiles',
    example: `vpn:\n  ${fullName('mknod.devices')}: c:10:200`,
    help: "chosen by profile=NAME in listenerMetadata, or LXC's cookie",
    says: 'Named policies. Each is a map of keys, and overrides the keys of `default`. `intercede flags` with `--profile NAME` shows how a container gets one. After a reload, edits apply to running containers too',
  },
  'annotations.profiles': {
    allowed: 'a list of profiles',
    example: '[vpn]',
    help: "profiles that a container's annotations may choose",
    says: "The profiles that a container's annotations may choose. Whoever starts a container writes its annotations",
  },
  'annotations.raise': {
    allowed: 'a list of keys',
    usually: '[]',
    example: '[mknod]',
    help: 'keys that annotations may raise; others they may only lower',
    says: 'The keys that annotations may set to any value. Annotations may only lower other keys',
  },
  ceiling: {
    allowed: 'a map of keys',
    example: `${fullName('mount.fuse')}: ext4=fuse2fs`,
    help: 'the maximum of a key, whoever sets it',
    says: 'The maximum of a key, whoever sets it. Intercede lowers a higher value of the configuration itself, a profile, metadata or annotations to the maximum, and the log says so; `intercede set` refuses it. Keys that are not listed have no maximum',
  },
  'log.level': {
    allowed: logLevels.join(', '),
    usually: 'info',
    example: 'notice',
    help: logLevels.join(', '),
    says: 'The lowest level of lines that the daemon logs',
  },
  'log.arguments': {
    allowed: argumentModes.join(', '),
    usually: 'all',
    example: 'names',
    help: 'recorded arguments of calls: all, names (no paths), none',
    says: 'Which arguments of calls the daemon records, for `intercede events`, `explain` and history; the log has none. `names` leaves out paths, `none` leaves out all arguments',
  },
  'metrics.container': {
    allowed: 'true or false',
    usually: 'false',
    example: 'true',
    help: 'whether metrics name containers',
    says: 'Whether the metrics also count the calls of each container',
  },
  'history.path': {
    allowed: 'the absolute path of a directory, or none',
    usually: '/var/lib/intercede',
    example: 'none',
    help: 'directory of what outlives containers; none: keep nothing',
    says: 'The directory in which the daemon keeps refusals of containers that have ended, and what administrators changed. `none` keeps nothing. A service gets the default from systemd (`StateDirectory`). A daemon with its own `--socket`, and one of `--user`, keeps nothing unless this names a directory',
  },
  'history.size': {
    allowed: 'a size from 1m to 256m',
    usually: '16m',
    example: '64m',
    help: 'the most space that history takes, from 1m to 256m',
    says: 'The most space that history takes. The oldest half makes room for new lines',
  },
  'history.age': {
    allowed: 'a number of days from 1d to 3650d',
    usually: '30d',
    example: '90d',
    help: 'how long history is kept, in days',
    says: 'How long history is kept, in days; a line may go a tenth later',
  },
  'nri.socket': {
    allowed: 'the absolute path of a socket, or none',
    usually: 'none',
    example: '/run/nri/nri.sock',
    help: 'the NRI socket of containerd 2.3, for Pods that name a profile',
    says: 'The NRI socket of containerd, through which Pods can [name a profile](../runtimes/kubernetes.md#profiles-by-annotation)',
  },
  'nri.namespaces': {
    allowed: 'a map of lists of profiles',
    example: 'default: [vpn]',
    help: 'profiles that Pods of a namespace may name; "*": of every one',
    says: 'The profiles that Pods of a namespace may name. `"*"` means every namespace',
  },
  reload: {
    allowed: reloadModes.join(' or '),
    usually: 'auto',
    example: 'manual',
    help: 'or manual: replaced files wait for a reload (SIGHUP)',
    says: 'When the daemon becomes the new program after its files were replaced: at once (`auto`), or at the next reload (`manual`). Until that reload it cannot start processes of its own',
  },
  ...limits,
} as const satisfies Readonly<Record<string, ConfigKey>>
export type ConfigKeyName = keyof typeof CONFIG_KEYS

/** The names of a section's keys. */
export type MemberOf<Section extends string> = ConfigKeyName extends infer Name
  ? Name extends `${Section}.${infer Member}`
    ? Member
    : never
  : never
export type SectionName = ConfigKeyName extends infer Name
  ? Name extends `${infer Section}.${string}`
    ? Section
    : Name
  : never

/** Lists the names of a section's keys. */
export const membersOf = (section: string): readonly string[] =>
  Object.keys(CONFIG_KEYS).flatMap((name) => (name.startsWith(`${section}.`) ? name.slice(section.length + 1) : []))

/** The column at which the words about a key begin. */
const COLUMN = 36
const indented = (text: string, indent: string): readonly string[] => text.split('\n').map((line) => `${indent}${line}`)

/** Shows a key with a value: the last part of its name, and the lines of a map below it. */
function keyLines(name: ConfigKeyName, value: string, words = ''): readonly string[] {
  const [member, section] = name.split('.').reverse() as [string, string?]
  const indent = section === undefined ? '' : '  '
  const isMap = /: /.test(value)
  const line = `${indent}${member}:${isMap ? '' : ` ${value}`}`
  const head = words === '' ? line : `${line.padEnd(COLUMN)}# ${words}`
  return [head, ...(isMap ? indented(value, `${indent}  `) : [])]
}

const sectionOf = (name: string): string | undefined => (name.includes('.') ? name.split('.')[0] : undefined)

/** Shows a key alone, in its section. */
export const exampleOf = (name: ConfigKeyName): string => {
  const section = sectionOf(name)
  return [...(section === undefined ? [] : [`${section}:`]), ...keyLines(name, CONFIG_KEYS[name].example)].join('\n')
}

/** Shows a configuration with every key: what usually holds, or else an example. */
export function sampleConfig(): readonly string[] {
  let last: string | undefined
  return Object.entries(CONFIG_KEYS).flatMap(([name, key]) => {
    const section = sectionOf(name)
    const head = section === undefined || section === last ? [] : [`${section}:`]
    last = section
    const { usually, example, help }: { usually?: string; example: string; help: string } = key
    return [...head, ...keyLines(name as ConfigKeyName, usually ?? example, help)]
  })
}
