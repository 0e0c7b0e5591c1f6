import { fullName } from './key.ts'
import { LIMITS, type Limit, type LimitName } from './limits.ts'

/** What is the least that the log has lines about. */
export const logLevels = ['debug', 'info', 'notice', 'warn', 'error'] as const
/** How much of the arguments of calls is recorded: nothing, numbers and names of the kernel, or paths too. */
export const argumentModes = ['none', 'names', 'all'] as const
export const reloadModes = ['auto', 'manual'] as const

/** A key of the configuration file, as config.ts checks it, and as help and pages present it. */
interface ConfigKey {
  /** What is allowed, as the end of the sentence "allowed is ...". */
  readonly allowed: string
  /** What holds where the file says nothing, in YAML; undefined where that is nothing. */
  readonly usually?: string
  /** A value in YAML: that of a map has lines of its own. */
  readonly example: string
  /** The help of `serve` says this beside the key. */
  readonly help: string
  /** The manual says this, in Markdown. */
  readonly says: string
}

/** The keys of `limits`, which pages present by what happens beyond them. */
const limits = Object.fromEntries(
  Object.entries<Limit>(LIMITS).map(([name, { usually, from, to, must, example, what, help, reached }]) => [
    `limits.${name}`,
    {
      allowed: `a whole number from ${from} to ${to}${must === undefined ? '' : `, ${must}`}`,
      usually: `${usually}`,
      example: `${example}`,
      help,
      says: `How many ${what}. Beyond that: ${reached}`,
    },
  ]),
) as Readonly<Record<`limits.${LimitName}`, ConfigKey>>

/** Every key of the configuration file, in the order in which a file has them. */
export const CONFIG_KEYS = {
  default: {
    allowed: 'a map of keys',
    example: `${fullName('mknod')}: true`,
    help: 'for every container',
    says: 'Keys of a policy that hold for every container, unless its profile or what comes with it says otherwise. Each key may have its short name, and a list may be one of YAML',
  },
  profiles: {
    allowed: 'a map of profiles',
    example: `vpn:\n  ${fullName('mknod.devices')}: c:10:200`,
    help: "chosen by profile=NAME in listenerMetadata, or LXC's cookie",
    says: 'Policies with a name, each a map of keys, which hold over those of `default`. `intercede flags` with `--profile NAME` shows how a container gets one. An edit counts for containers that run, from the next reload',
  },
  'annotations.profiles': {
    allowed: 'a list of profiles',
    example: '[vpn]',
    help: "what a container's annotations may choose",
    says: 'The profiles that a container may have by its annotations. Who starts containers writes annotations',
  },
  'annotations.raise': {
    allowed: 'a list of keys',
    usually: '[]',
    example: '[mknod]',
    help: 'keys that they may set; all others they may only lower',
    says: 'The keys that annotations may set to anything; all others they may only lower',
  },
  ceiling: {
    allowed: 'a map of keys',
    example: `${fullName('mount.fuse')}: ext4=fuse2fs`,
    help: 'what a key may be at most, whoever gives it',
    says: 'What a key may be at most, whoever gives it: the configuration itself, a profile, metadata, annotations or `intercede set`. A value that is more is lowered to it, which the log says. A key that is not named is not bounded',
  },
  'log.level': {
    allowed: logLevels.join(', '),
    usually: 'info',
    example: 'notice',
    help: logLevels.join(', '),
    says: 'The least of the lines that the log has',
  },
  'log.arguments': {
    allowed: argumentModes.join(', '),
    usually: 'all',
    example: 'names',
    help: 'what is recorded of calls: all, names (no paths), none',
    says: 'What is recorded of the arguments of calls, for the log and for `intercede events`: `names` leaves paths out, `none` leaves all out',
  },
  'metrics.container': {
    allowed: 'true or false',
    usually: 'false',
    example: 'true',
    help: 'whether metrics name containers',
    says: 'Whether calls are counted for each container too in the metrics',
  },
  reload: {
    allowed: reloadModes.join(' or '),
    usually: 'auto',
    example: 'manual',
    help: 'or manual: replaced files wait for SIGHUP',
    says: 'Whether the daemon goes on as another program as soon as its files are replaced, or from the next reload only (`manual`): between the two it can start no process of its own',
  },
  ...limits,
} as const satisfies Readonly<Record<string, ConfigKey>>
export type ConfigKeyName = keyof typeof CONFIG_KEYS

/** The names of the keys of a section. */
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

/** Lists the names of the keys of a section. */
export const membersOf = (section: string): readonly string[] =>
  Object.keys(CONFIG_KEYS).flatMap((name) => (name.startsWith(`${section}.`) ? name.slice(section.length + 1) : []))
