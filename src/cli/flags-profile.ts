import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { trappedBy } from '../calls/rule.ts'
import { readProfile } from '../filter/read.ts'
import { capabilitiesFor } from '../policy/required-capabilities.ts'
import { type Instructions, inShort } from '../runtimes/flags.ts'
import { makeDirectory } from '../runtimes/make-directory.ts'
import { shellWord } from '../runtimes/shell-word.ts'
import { readText } from '../runtimes/text-file.ts'
import { notifying } from '../runtimes/trapped-calls.ts'
import { makeProfile, type ProfileOptions, writeProfile } from './make-profile.ts'
import { say } from './print.ts'
import type { PolicyOptions, WantedPolicy } from './wanted-policy.ts'

/** The options of `intercede flags`, as data. */
export interface FlagsOptions extends PolicyOptions {
  readonly base?: string | false
  readonly name?: string
  readonly firstId: number
  readonly listener?: string
  /** A directory, or true for the default directory. */
  readonly write?: string | true
}

/** A runtime, and what to tell it. */
interface Told {
  readonly name: string
  readonly instructions: Instructions
}

interface Place {
  readonly directory: string
  readonly file: string
  /** Whether the directory is the usual one, which is made. */
  readonly isUsual: boolean
}

export const hasOnlyKeys = ({ profile, trap = [], listener }: FlagsOptions): boolean =>
  profile === undefined && trap.length === 0 && listener === undefined

export function placeOf(
  { metadata, reach }: WantedPolicy,
  options: FlagsOptions,
  { directory, ending, written }: Instructions,
): Place {
  const { write, profile, trap = [], name, listener } = options
  const chosen = typeof write === 'string' ? resolve(write) : directory
  const words = [...metadata, ...trap.map((key) => `trap ${key}`)]
  const there = hasOnlyKeys(options) ? written?.get(inShort(metadata)) : undefined
  const file = name ?? there ?? profileName(Object.keys(reach), words, { listener, profile })
  return { directory: chosen, file: join(chosen, `${file}${ending}`), isUsual: typeof write !== 'string' }
}

/** Writes the profile, or prints the command that writes it. The lines for LXC that name it are in our own output. */
function provide(wanted: WantedPolicy, options: FlagsOptions, profile: ProfileOptions, place: Place): void {
  if (options.write === undefined) {
    const directory = existsSync(place.directory) ? '' : `mkdir -p ${shellWord(place.directory)} && `
    say(`write the profile first: ${directory}intercede ${wordsFor(options, profile).map(shellWord).join(' ')}`)
    return
  }
  const { text } = makeProfile(wanted, profile)
  if (place.isUsual) makeUsual(place)
  writeProfile(text, place.file)
}

function makeUsual({ directory }: Place): void {
  try {
    makeDirectory(directory)
  } catch (error) {
    const why = (error as Error).message
    throw new Error(`Cannot write the profile: ${why}; run it as root, or name a directory with --write DIR`)
  }
}

/** Chooses the filter that stays in force for calls that are not trapped. */
function baseFor({ name, instructions }: Told, { base: wanted }: FlagsOptions): string | undefined {
  const { base: usual, filter = `the filter of ${name}` } = instructions
  const there = usual !== undefined && existsSync(usual) ? usual : undefined
  const chosen = wanted === false ? undefined : (wanted ?? there)
  if (chosen === undefined)
    say(`the profile will allow all that it does not trap, in place of ${filter}; --base FILE keeps one`)
  return chosen
}

/** The arguments of `intercede profile` that make the same profile. */
function wordsFor(
  { config = [], profile, trap = [], daemonConfig }: PolicyOptions,
  { target, base, listener, user, capAdd = [], output }: ProfileOptions,
): readonly string[] {
  const option = (name: string, value: string | undefined): readonly string[] =>
    value === undefined ? [] : [name, value]
  return [
    'profile',
    ...option('--profile', profile),
    ...config.flatMap((key) => ['-c', key]),
    ...trap.flatMap((key) => ['--trap', key]),
    ...option('--daemon-config', daemonConfig),
    ...(target ? ['--runtime', target.name] : ['--format', 'lxc']),
    ...option('--base', base),
    ...option('--listener', listener),
    ...(user ? ['--user'] : []),
    ...capAdd.flatMap((cap) => ['--cap-add', cap]),
    ...option('--output', output),
  ]
}

/** Returns the calls that the file traps. @throws {Error} if it is no profile */
function trappedIn(file: string, { target }: Instructions): ReadonlySet<string> {
  const text = readText(file)
  if (!target) return new Set([...text.matchAll(/^(\w+) notify\b/gm)].map(([, name]) => name!))
  return notifying(readProfile(text).syscalls ?? [])
}

/** Says what the file that is there lacks of what was asked for, and why. */
function outdated(file: string, { instructions }: Told, { rules }: WantedPolicy): readonly string[] {
  try {
    const trapped = trappedIn(file, instructions)
    const lacking = [...trappedBy(rules)].filter((name) => !trapped.has(name))
    return lacking.length > 0 ? [`is older and does not trap ${lacking.join(', ')}`] : []
  } catch (error) {
    return [`is of no use: ${(error as Error).message}`]
  }
}

/** Says why the file that is there, which is left as it is, may not be what was asked for. */
function sayOutdated(file: string, runtime: Told, wanted: WantedPolicy, { base }: FlagsOptions): void {
  const kept = base === undefined ? [] : ['is there already, and keeps its base']
  for (const text of [...outdated(file, runtime, wanted), ...kept])
    say(`the profile ${JSON.stringify(file)} ${text}; --write makes it anew`)
}

/** The file exists, or its making is said or done. */
export function prepareProfile(runtime: Told, wanted: WantedPolicy, options: FlagsOptions, place: Place): void {
  if (options.write === undefined && existsSync(place.file)) {
    sayOutdated(place.file, runtime, wanted, options)
    return
  }
  if (options.write === undefined && runtime.instructions.elsewhere) return
  const base = baseFor(runtime, options)
  const { target } = runtime.instructions
  const capAdd = base !== undefined && target && !target.resolvesGuards ? capabilitiesFor(wanted.reach) : []
  const { listener, user } = options
  provide(wanted, options, { target, base, listener, user, capAdd, output: place.file }, place)
}

/** What a profile depends on beside its keys. */
interface Besides {
  readonly listener?: string | undefined
  /** The profile of the configuration that its metadata names. */
  readonly profile?: string | undefined
}

/**
 * Names a profile, without a file ending. Each set of keys, values and socket has its own name, since the file is the
 * policy of all containers that use it. Without values beyond "true", the name lists the calls and has no hash; a
 * profile of the configuration alone gives its own name.
 *
 * @param families the calls that are served, as the policy names them
 * @param words every line of the metadata, and what else is trapped
 */
export function profileName(
  families: readonly string[],
  words: readonly string[],
  { listener = '', profile }: Besides = {},
): string {
  const isNamed = profile !== undefined && /^\w[\w.+-]{0,99}$/.test(profile)
  const name = profile === undefined ? families.join('-').toLowerCase() : `profile${isNamed ? `-${profile}` : ''}`
  if (listener === '' && isPlain(families, words, isNamed)) return name
  const sorted = [...words].sort().join('\n')
  return `${name}-${createHash('sha256').update(`${listener}\n${sorted}`).digest('hex').slice(0, 8)}`
}

function isPlain(families: readonly string[], words: readonly string[], isNamed: boolean): boolean {
  if (isNamed) return words.length === 1
  return words.length === families.length && words.every((word) => /^[^.]*=true$/.test(short(word)))
}

const short = (key: string): string => key.replace(/^security\.syscalls\.intercept\./, '')
