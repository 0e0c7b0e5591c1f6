import { type Rule, trappedBy } from '../calls/syscall.ts'
import { ineffectiveHere } from '../keeper/ineffective-keys.ts'
import { deviceNames } from '../kernel/device-names.ts'
import { type Config, parseConfig } from '../policy/config.ts'
import { formatLines, type KeyValueLine, PROFILE, parseAssignment } from '../policy/key-value-lines.ts'
import { mustServeUser, type Policy } from '../policy/policy.ts'
import { resolve } from '../policy/resolve.ts'
import { clamp, clamped, effective, type Settings, settle, toPolicy } from '../policy/settings.ts'
import { readText } from '../runtimes/text-file.ts'
import { briefly, didYouMean } from '../shared/texts.ts'
import { rulesFor } from '../syscalls/index.ts'
import { configFile, configFileIfThere } from './paths.ts'
import { asUsage, checkUsage, UsageError } from './usage.ts'

/**
 * Reads the daemon's configuration. It is a file of its own, since the help needs only the path of the configuration.
 *
 * @param file undefined for a configuration that sets nothing
 * @throws {Error} if it cannot be read, or is wrong
 */
export function readConfiguration(file: string | undefined): Config {
  if (file === undefined) return parseConfig('', '')
  let text: string
  try {
    text = readText(file)
  } catch (error) {
    const { message } = error as Error
    const why = message.startsWith('ENOENT')
      ? 'it is not there; write it, even if empty, or name another file'
      : message
    throw new Error(`Cannot read configuration "${file}": ${why}`)
  }
  return parseConfig(text, file, deviceNames)
}

/** The options of `profile` and `flags` that say what a container may have. */
export interface PolicyOptions {
  /** The keys of the policy, as on a command line. */
  readonly config?: readonly string[] | undefined
  /** The name of a profile of the daemon's configuration. */
  readonly profile?: string | undefined
  /** The reach: keys that the daemon's configuration may turn on later, while containers run. */
  readonly trap?: readonly string[] | undefined
  readonly daemonConfig?: string | undefined
  readonly user?: boolean | undefined
  /** Of `flags` alone: some of them may hold by the daemon's configuration. */
  readonly annotation?: readonly string[] | undefined
}

export interface WantedPolicy {
  /** What the container brings along: `profile=NAME` and the given keys, each value in its canonical spelling. */
  readonly metadata: readonly string[]
  /** What holds for the container now. */
  readonly settings: Settings
  /** What the container may have, now or after an edit of the configuration: traps and capabilities are for this. */
  readonly reach: Policy
  readonly rules: readonly Rule[]
  /** What of that has no effect here, each with what to do. */
  readonly ineffective: readonly string[]
}

/** Returns the lines of the metadata that mean the same. @throws {UsageError} if they cannot name the profile */
function metadataFor(profile: string | undefined, entries: readonly KeyValueLine[]): readonly string[] {
  // A line of metadata ends at a line break, and in LXC's cookie at a semicolon.
  checkUsage(
    profile === undefined || /^[^\s;](?:[^\r\n;]*[^\s;])?$/.test(profile),
    `Cannot name the profile ${briefly(profile)} in the metadata of a container: the name is empty, has spaces around it, or contains a line break or a semicolon; rename it in the configuration`,
  )
  const given = effective(settle(entries)).filter(({ origin }) => origin.kind === 'given')
  const named = profile === undefined ? {} : { profile: { name: profile } }
  return formatLines({ ...named, entries: given.map(({ key, text }) => [key, text]) })
    .split('\n')
    .slice(0, -1)
}

/** Reads the configuration that has the profile; undefined without one. */
function configurationFor({ profile, annotation, daemonConfig, user = false }: PolicyOptions): Config | undefined {
  checkUsage(
    daemonConfig === undefined || profile !== undefined || annotation !== undefined,
    'Cannot use --daemon-config alone: it names the file in which --profile looks; name a profile too',
  )
  if (profile === undefined) return undefined
  const file = daemonConfig ?? configFile(user)
  const config = readConfiguration(file)
  checkHasProfile(config, profile, file)
  return config
}

function checkHasProfile({ profiles }: Config, name: string, file: string): void {
  if (profiles.has(name)) return
  const names = [...profiles.keys()].join(', ')
  const hint = didYouMean(name, profiles.keys()) || (names && `, it has ${names}`)
  throw new UsageError(
    `Cannot use --profile ${briefly(name)}: "${file}" has no such profile${hint}; add it there under "profiles"`,
  )
}

/** @throws {UsageError} if the reach takes away what the container has now */
function checkOnlyAdds(now: readonly Rule[], later: readonly Rule[]): void {
  const trapped = trappedBy(later)
  const lost = [...trappedBy(now)].filter((name) => !trapped.has(name))
  checkUsage(lost.length === 0, `Cannot use --trap to remove ${lost.join(', ')}: it only adds; -c sets a key`)
}

const nothing = ({ profile }: PolicyOptions, settings: Settings): string => {
  const lowered = clamped(settings)
  if (lowered.length > 0) return lowered.join('; ')
  const reasons = ineffectiveHere(settings).join('; ')
  if (reasons !== '') return `${reasons}; give that too`
  return profile === undefined
    ? 'no key is on; try -c mknod, or name a profile with --profile'
    : `no key is on in the profile ${briefly(profile)}; turn one on there, or name with --trap what it may have later`
}

/** Says what a daemon would lower to a ceiling of its configuration, if that is there. */
function lowered({ daemonConfig, user = false }: PolicyOptions, config: Config | undefined, most: Settings) {
  try {
    const { ceiling } = config ?? readConfiguration(daemonConfig ?? configFileIfThere(user))
    return clamped(clamp(most, ceiling))
  } catch (error) {
    return [`whether a ceiling of the daemon's configuration lowers that is not known: ${(error as Error).message}`]
  }
}

/**
 * Reads which policy a container shall have.
 *
 * @throws {UsageError} if the command line means no policy, or one that traps nothing
 * @throws {Error} if the configuration cannot be read, or is wrong
 */
export function wantedPolicy(options: PolicyOptions): WantedPolicy {
  const [entries, added] = [entriesOf('-c', options.config), entriesOf('--trap', options.trap)]
  const metadata = asUsage(() => metadataFor(options.profile, entries))
  const config = configurationFor(options)
  return asUsage(() => {
    const settings = config ? resolve(config, { metadata: metadata.join('\n') }, deviceNames).settings : settle(entries)
    const most = settle(added, settings)
    const reach = toPolicy(most, deviceNames)
    const rules = rulesFor(reach)
    checkOnlyAdds(rulesFor(toPolicy(settings, deviceNames)), rules)
    checkUsage(rules.length > 0, `Cannot make a profile: ${nothing(options, most)}`)
    if (options.user) mustServeUser(reach)
    const ineffective = [...new Set([...[settings, most].flatMap(ineffectiveHere), ...lowered(options, config, most)])]
    return { metadata, settings, reach, rules, ineffective }
  })
}

const entriesOf = (option: string, texts: readonly string[] = []): readonly KeyValueLine[] =>
  asUsage(() =>
    texts.map((text) => {
      const [key, value] = parseAssignment(text)
      checkUsage(key !== PROFILE, `Cannot use ${option} ${briefly(text)}: a profile is no key; use --profile NAME`)
      return [key, value]
    }),
  )
