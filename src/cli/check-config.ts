import { readdirSync } from 'node:fs'
import { join, resolve as resolvePath } from 'node:path'
import { explain, why } from '../calls/reasons.ts'
import { trappedBy } from '../calls/syscall.ts'
import { readProfile } from '../filter/read.ts'
import { flawOfDirectory } from '../keeper/feed/history-file.ts'
import { ineffectiveUnless } from '../keeper/ineffective-keys.ts'
import type { HistoryOptions } from '../keeper/process/events.ts'
import { deviceNames } from '../kernel/device-names.ts'
import { orElse } from '../kernel/error.ts'
import type { Config } from '../policy/config.ts'
import { fullName } from '../policy/key.ts'
import { formatOrigin } from '../policy/key-value-lines.ts'
import { keyNames } from '../policy/keys.ts'
import { effectiveLimits } from '../policy/limits.ts'
import { forUser, type Policy, serves } from '../policy/policy.ts'
import { resolve } from '../policy/resolve.ts'
import { effective } from '../policy/settings.ts'
import { FEED_SOCKET } from '../processes/installation.ts'
import type { ContainerView } from '../reader/container-fields.ts'
import { barredBy, containersOf } from '../reader/container-view.ts'
import { connect, NoDaemon } from '../reader/feed.ts'
import { notifying } from '../runtimes/bundle.ts'
import { runtimes } from '../runtimes/known/index.ts'
import { readText } from '../runtimes/text-file.ts'
import { briefly, byKey, counted, didYouMean, fewOf } from '../shared/texts.ts'
import { callsOf, rulesFor, untrapped } from '../syscalls/index.ts'
import { formatContainer } from './open-feed.ts'
import { say } from './print.ts'

const MIB = 1024 ** 2
const DAY_MS = 86_400_000

/** Lists every key with its effective value and origin, for a container with this metadata. */
function keysOf(config: Config, metadata: string, user: boolean): readonly string[] {
  const { settings, policy } = resolve(config, { metadata }, deviceNames)
  const keys = effective(settings).map(
    ({ key, text, origin, asked }) =>
      `  ${key}: ${JSON.stringify(text)} # ${formatOrigin(origin)}${asked === undefined ? '' : `, which asks for ${JSON.stringify(asked)}`}`,
  )
  return [
    ...keys,
    ...ineffectiveUnless(settings).map((text) => `  # ${text}`),
    ...trappedFor(policy),
    ...(user ? forUser(policy).withheld : []).map(
      (key) => `  # ${key} is left to the kernel: ${explain(why('userDaemon')).says}`,
    ),
  ]
}

/** A key does nothing in a container whose filter does not trap its calls, whoever gives the key. */
function trappedFor(policy: Policy): readonly string[] {
  const names = trappedBy(rulesFor(policy))
  return names.size > 0
    ? [`  # ${policy.mode ? 'observed' : 'served'} where the filter of a container traps: ${[...names].join(', ')}`]
    : []
}

/**
 * Finds the running containers of this machine's daemon whose profile a configuration lacks: a reload would reject it.
 * Without a daemon there are none; it is said if there is one that we cannot ask.
 *
 * @param path of the configuration that the daemon reads; a daemon that reads another one has none of these containers
 * @returns which daemon was asked, as a comment
 * @throws {Error} that names them
 */
export function requireProfilesInUse(
  { profiles }: Config,
  file: string | undefined,
  feed: string | undefined,
  path?: string,
): readonly string[] {
  const { views, reads, at } = containersAt(feed, path)
  const missing = views.flatMap((view) => {
    const { profile } = view.about
    const hasLost = barredBy(view) === 'policyInvalid'
    return typeof profile !== 'string' || profiles.has(profile)
      ? []
      : [{ entry: [profile, formatContainer(view)] as const, hasLost }]
  })
  const lacking = (lost: boolean) => byKey(missing.flatMap(({ entry, hasLost }) => (hasLost === lost ? [entry] : [])))
  // One that has lost its profile, or never had it, has nothing to lose.
  for (const [profile, few] of lacking(true))
    say(`It still has no profile ${briefly(profile)} for ${fewOf(few)}, whose calls are left to the kernel`)
  const lost = lacking(false)
  const about = `${counted(views.length, 'running container')} of the daemon at ${briefly(at)}`
  if (lost.size === 0) return reads === undefined ? [] : [`# for ${about}, which reads ${briefly(reads)}`]
  const all = [...lost].map(
    ([profile, few]) =>
      `it has no profile ${briefly(profile)}, and ${counted(few.length, 'running container')} would lose it: ${fewOf(few)}${didYouMean(profile, profiles.keys())}`,
  )
  if (file !== undefined && reads !== undefined && resolvePath(file) !== reads)
    all.push(
      `they are of the daemon at ${briefly(at)}, which reads ${briefly(reads)}: name the daemon of this one with --feed-socket`,
    )
  throw new Error(
    `Cannot use ${file === undefined ? 'no configuration' : `configuration ${briefly(file)}`}: ${all.join('; ')}`,
  )
}

interface Asked {
  readonly views: readonly ContainerView[]
  readonly at: string
  /** The configuration that the daemon reads; undefined if none was asked. */
  readonly reads?: string | undefined
}

function containersAt(at = FEED_SOCKET, path?: string): Asked {
  const none = { views: [], at }
  try {
    using daemon = connect(at)
    const { configPath } = daemon.directory.daemon
    if (path !== undefined && path !== configPath) return none
    return { views: containersOf(daemon), at, reads: configPath }
  } catch (error) {
    if (!(error instanceof NoDaemon))
      say(`${(error as Error).message}; so nobody knows whether its containers have their profiles`)
    return none
  }
}

const list = (names: ReadonlySet<string>): string => [...names].join(', ') || 'none'

const limitsOf = ({ limits }: Config): string =>
  Object.entries(effectiveLimits(limits))
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')

const ceilingsOf = ({ ceiling }: Config): readonly string[] =>
  ceiling.size === 0
    ? ['ceiling: none']
    : ['ceiling:', ...[...ceiling].map(([name, text]) => `  ${fullName(name)}: ${JSON.stringify(text)}`)]

/** Says where history is kept, and warns if it cannot be: the daemon serves without it, too. */
function describeHistory(history: HistoryOptions | undefined): string {
  if (history === undefined) return 'history: none'
  const { directory, size, age } = history
  const flaw = flawOfDirectory(directory)
  if (flaw !== undefined) say(`Cannot keep history in "${directory}": ${flaw}`)
  return `history: ${JSON.stringify(directory)}, at most ${size / MIB} MiB and ${counted(age / DAY_MS, 'day')}`
}

/**
 * Describes a configuration: its keys for a container without a profile, for each profile, and for annotations; and
 * which of them the filters of this machine trap.
 *
 * @param user whether the configuration is that of `serve --user`
 */
export function describeConfig(config: Config, user: boolean, history: HistoryOptions | undefined): readonly string[] {
  return [
    'default:',
    ...keysOf(config, '', user),
    ...[...config.profiles.keys()].flatMap((name) => [
      `profile ${JSON.stringify(name)}:`,
      ...keysOf(config, `profile=${name}`, user),
    ]),
    ...ceilingsOf(config),
    `annotations may choose the profiles: ${list(config.annotations.profiles)}`,
    ...[...config.nri.namespaces].map(
      ([name, profiles]) =>
        `Pods of the namespace ${JSON.stringify(name)} may name the profiles: ${list(new Set(profiles))}`,
    ),
    ...describeFilters(config, user),
    `limits: ${limitsOf(config)}`,
    describeHistory(history),
    `reload: ${config.reload}`,
    `annotations may set these keys, and all others only to less: ${list(config.annotations.raise)}`,
  ]
}

/**
 * Returns the directories in which `flags --write` puts the profiles of runtimes. Policies of LXC are left out, since
 * they do not say which keys they are for.
 */
const directoriesFor = (user: boolean): ReadonlySet<string> =>
  new Set(
    runtimes.flatMap(({ instructions }) => {
      const directory = user ? instructions?.userDirectory?.() : instructions?.directory
      return directory === undefined ? [] : [directory]
    }),
  )

const filesIn = (directory: string): readonly string[] =>
  orElse([], () => {
    const names = readdirSync(directory).filter((name) => name.endsWith('.json'))
    return names.sort().map((name) => join(directory, name))
  })

/** Says of each key that is on for containers with a profile whether its filter traps it, and who serves them. */
function describeFilter(config: Config, file: string): readonly string[] {
  const { listenerMetadata: metadata, listenerPath, syscalls = [] } = readProfile(readText(file))
  // It is the profile of somebody else, or no profile.
  if (metadata === undefined) return []
  const traps = notifying(syscalls)
  const { policy, settings } = resolve(config, { metadata }, deviceNames)
  const on = keyNames.filter((name) => callsOf(name).length > 0 && serves(policy, name))
  const lines = on.map((name) => {
    const missing = untrapped(policy, name, traps)
    const isTrapped = missing.length === 0 ? 'trapped' : `not trapped: ${missing.join(', ')}`
    return `  # ${fullName(name)} (${formatOrigin(settings.get(name)!.origin)}): ${isTrapped}`
  })
  return listenerPath === undefined ? lines : [`  # of the daemon at ${JSON.stringify(listenerPath)}`, ...lines]
}

function describeOrSay(config: Config, file: string): readonly string[] {
  try {
    return describeFilter(config, file)
  } catch (error) {
    return [`  # ${(error as Error).message}`]
  }
}

/** Describes the filters of this machine: which keys that are on for their containers they trap. */
const describeFilters = (config: Config, user: boolean): readonly string[] =>
  [...directoriesFor(user)].flatMap(filesIn).flatMap((file) => {
    const lines = describeOrSay(config, file)
    return lines.length > 0 ? [`filter ${JSON.stringify(file)}:`, ...lines] : []
  })
