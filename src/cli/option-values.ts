import { isIP } from 'node:net'
import { InvalidArgumentError, Option } from 'commander'
import { type Cap, capabilities } from '../abi/credentials.ts'
import { CONTROL_SOCKET } from '../keeper/control/protocol.ts'
import { FEED_SOCKET } from '../processes/installation.ts'
import { ID_COUNT } from '../runtimes/flags.ts'
import { instructed, ociRuntimes } from '../runtimes/known/index.ts'
import { configFile } from './paths.ts'

/*
 * What the values of options mean, and the options that several commands have. Each function that reads a value throws
 * an InvalidArgumentError, of which commander makes the sentence that the user sees.
 */

/** Makes the parser of an option whose value is a text. @param is what every text of this form is */
const textLike =
  (form: RegExp, is: string) =>
  (text: string): string => {
    if (form.test(text)) return text
    throw new InvalidArgumentError(`It must be ${is}.`)
  }

/** Makes the parser of an option whose value is a number within limits. @param is what every such number is */
const numberLike =
  (form: RegExp, is: string, from = 0, to = Number.POSITIVE_INFINITY) =>
  (text: string): number => {
    const number = form.test(text) ? Number(text) : Number.NaN
    if (number >= from && number <= to) return number
    throw new InvalidArgumentError(`It must be ${is}.`)
  }

const LAST_FIRST_ID = 2 ** 32 - 2 - ID_COUNT

/** A directory in the container. */
export const parseWorkdir = textLike(/^\//, 'an absolute path in the container, such as /tmp')
/** A path, which an empty variable of a shell may have left empty. */
export const parsePath = textLike(/./s, 'a path, and it is empty')
/** A host name of at most 64 bytes, in the characters that runtimes allow. */
export const parseName = textLike(/^[a-z0-9][a-z0-9_.-]{0,63}$/i, 'a host name')
/** A path would lead out of the directory, and the shell splits and expands other words. */
export const parseFileName = textLike(
  /^\w[\w.+-]{0,199}$/,
  'a plain name of letters, digits and . _ + -; --write sets the directory',
)
/** As the API of Kubernetes has it. */
export const parseObjectName = textLike(/^(?!.{254})[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/, 'a name such as mknod')
/** The limit is that of timers, 24 days. */
export const parseSeconds = numberLike(/^\d{1,7}$/, 'a whole number of seconds up to 2000000', 0, 2_000_000)
/** An id of the host, from which all ids of a container follow. */
export const parseFirstId = numberLike(
  /^\d{1,10}$/,
  `a number from ${ID_COUNT}, above the ids of the host itself, to ${LAST_FIRST_ID}`,
  ID_COUNT,
  LAST_FIRST_ID,
)
export const parseTail = numberLike(/^\d{1,9}$/, 'a whole number')
export const parseInterval = numberLike(/./s, 'a number of seconds from 0.1 to 3600', 0.1, 3600)

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }

/** The least memory with which any runtime starts a container: with less the kernel kills it before its first word. */
const LEAST_MIB = Math.min(...ociRuntimes.map(({ leastMemoryMib }) => leastMemoryMib))

/** Parses a size with podman's units, such as `512m`, `2G`, `123MiB` or `12345678`. @returns bytes */
export function parseSize(text: string): number {
  const [, number, unit = ''] = /^(\d+)(?:([kmgt])i?)?b?$/i.exec(text) ?? []
  if (!number) throw new InvalidArgumentError('It must be a size such as 512m or 2g.')
  const bytes = Number(number) * UNITS[unit.toLowerCase()]!
  if (bytes >= LEAST_MIB * UNITS.m! && Number.isSafeInteger(bytes)) return bytes
  throw new InvalidArgumentError(`It must be at least ${LEAST_MIB}m, with less no container starts, and at most 8191t.`)
}

/** Parses the name of a runtime for which `flags` has instructions. */
export function parseInstructed(name: string): string {
  const names = instructed.map((runtime) => runtime.name)
  if (names.includes(name)) return name
  const allowed = `Allowed choices are ${names.join(', ')}`
  if (!ociRuntimes.some((runtime) => runtime.name === name)) throw new InvalidArgumentError(`${allowed}.`)
  throw new InvalidArgumentError(
    `${allowed}; for the config.json of ${name} use "intercede profile --runtime ${name}".`,
  )
}

/** Parses `ADDRESS:PORT`. @param example of the command */
const listenParser =
  (example: string) =>
  (text: string): { host: string; port: number } => {
    const [, address = '', digits] = /^(.+):(\d{1,5})$/.exec(text) ?? []
    const [host, port] = [address.replace(/^\[(.*)\]$/, '$1'), Number(digits)]
    if (isIP(host) && port > 0 && port < 65_536) return { host, port }
    throw new InvalidArgumentError(`It must be an address and a port, such as ${example}.`)
  }
export const parseListen = listenParser('192.0.2.1:9470')
/** Of what only this machine reaches. */
export const parseOwnListen = listenParser('127.0.0.1:9471')

/** Parses `UID[:GID]`, ids of the container. Without GID, the group has the number of the user. */
export function parseUser(text: string): { uid: number; gid: number } {
  const [, uid, gid = uid] = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(text) ?? []
  if (!uid || Number(uid) > 65_535 || Number(gid) > 65_535) {
    throw new InvalidArgumentError('It must be UID[:GID], numbers up to 65535.')
  }
  return { uid: Number(uid), gid: Number(gid) }
}

/** Parses `KEY=VALUE`, or `KEY`, which passes on the variable of our own environment. */
export function parseEnv(text: string, earlier: readonly string[] = []): string[] {
  if (!/^[^=\s\p{Cc}]+(=|$)/u.test(text))
    throw new InvalidArgumentError(
      'It must be KEY=VALUE with a KEY without spaces, or the KEY of a variable of your own.',
    )
  if (text.includes('=')) return [...earlier, text]
  const own = process.env[text]
  return own === undefined ? [...earlier] : [...earlier, `${text}=${own}`]
}

/** Collects the values of an option that may be repeated. */
export const collect = (text: string, earlier: readonly string[] = []): string[] => [...earlier, text]

/** Parses the name of a capability, with or without `CAP_`, and collects it. */
export function parseCap(text: string, earlier: readonly Cap[] = []): readonly Cap[] {
  const cap = capabilities.find((name) => name === text.toUpperCase().replace(/^CAP_/, ''))
  if (cap === undefined) throw new InvalidArgumentError('It must be a capability of Linux such as MKNOD or SYS_ADMIN.')
  return [...earlier, cap]
}

const TIME_UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** What JavaScript takes for a time beside that, such as "10", nobody means. */
const DATE = /^\d{4}-\d\d-\d\d/

const DAYS: Readonly<Record<string, number>> = { today: 0, yesterday: 1 }

/** Returns the time of this clock, at this day or so many days before, in the local time zone. */
const timeOfDay = (daysBefore: number, hours = 0, minutes = 0, seconds = 0): number => {
  const now = new Date()
  const day = now.getDate() - daysBefore
  return new Date(now.getFullYear(), now.getMonth(), day, hours, minutes, seconds).getTime()
}

/** Parses a time, or how long ago it was. A time of day that is still to come was yesterday. */
export function parseSince(text: string): number {
  if (/^(\d+[smhd])+$/.test(text)) {
    const parts = [...text.matchAll(/(\d+)([smhd])/g)]
    return parts.reduce((time, [, number, unit]) => time - Number(number) * TIME_UNITS[unit!]!, Date.now())
  }
  if (Object.hasOwn(DAYS, text)) return timeOfDay(DAYS[text]!)
  const clock = /^([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?$/.exec(text)?.slice(1).map(Number)
  if (clock) {
    const [hours, minutes, seconds = 0] = clock.map((each) => each || 0)
    const time = timeOfDay(0, hours, minutes, seconds)
    return time <= Date.now() ? time : timeOfDay(1, hours, minutes, seconds)
  }
  // A day begins here when it does for "today"; JavaScript takes a date alone for UTC.
  const isDay = /^\d{4}-\d\d-\d\d$/.test(text)
  const time = DATE.test(text) ? Date.parse(isDay ? `${text}T00:00` : text) : Number.NaN
  if (time <= Date.now()) return time
  if (!Number.isNaN(time)) throw new InvalidArgumentError(`It is in the future: ${new Date(time).toISOString()}.`)
  throw new InvalidArgumentError(
    'It must be a time such as 2026-01-31T10:00:00Z, 09:27, today or yesterday, or how long ago, such as 10m or 1h30m.',
  )
}

/** Parses the path of a socket: sun_path holds 108 bytes with the NUL; runtimes notice that only at container start. */
export function parseSocketPath(path: string): string {
  // A socket has a name of its own; what follows a colon or a semicolon is another word in the files of LXC.
  if (/^\/[^\s;]*[^\s;/]$/.test(path) && Buffer.byteLength(path) < 108) return path
  throw new InvalidArgumentError('It must be an absolute path of at most 107 bytes, without spaces and semicolons.')
}

const WHERE = `(default: ${FEED_SOCKET}, for a user's daemon intercede/feed.sock in XDG_RUNTIME_DIR)`
/** The option of all commands that read from a daemon. */
export const FEED_OPTION = ['--feed <path>', `the daemon's feed socket ${WHERE}`] as const
export const HISTORY_OPTION = [
  '--history <dir>',
  'the directory with history (default: where the daemon keeps it, or without a daemon, where that of the host did last)',
] as const
/** The same option for lists, which otherwise show the machine's runs too. */
export const ONLY_FEED_OPTION = [
  FEED_OPTION[0],
  `the daemon's feed socket; leaves out containers of "run" ${WHERE}`,
] as const
/** The option of all commands that order the daemon. */
export const CONTROL_OPTION = [
  '--control <path>',
  `the daemon's control socket (default: ${CONTROL_SOCKET}, or control.sock beside --feed)`,
] as const

/** The format option of commands without rows. */
export const formatOption = (): Option =>
  new Option('--format <format>', 'output format').choices(['table', 'json']).default('table')

export const configOption = (where = ''): Option =>
  new Option('-c, --config <KEY[=VALUE]>', `${where}set a policy key; may be repeated`).argParser(collect)
export const profileOption = (where = '', until = ''): Option =>
  new Option('--profile <name>', `${where}use this profile of the daemon's configuration${until}`)
export const daemonConfigOption = (): Option =>
  new Option('--daemon-config <file>', `the file with that profile (default: ${configFile(false)})`)

/** Makes the options of `profile` and `flags` that choose the policy. */
export const policyOptions = (): readonly Option[] => [
  configOption(),
  profileOption('', ', including later edits'),
  new Option(
    '--trap <KEY[=VALUE]>',
    "also trap the calls of this key, so that the daemon's configuration can turn it on later; may be repeated",
  ).argParser(collect),
  daemonConfigOption(),
]
