import { createHash } from 'node:crypto'
import { existsSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { engineDefault } from '../filter/base.ts'
import { formatProfile, NOTIFY } from '../filter/oci.ts'
import { readProfile } from '../filter/read.ts'
import { orElse } from '../kernel/error.ts'
import { capabilitiesFor } from '../policy/ineffective.ts'
import { type Instructions, inShort } from '../runtimes/flags.ts'
import { makeDirectory, readText } from '../runtimes/text-file.ts'
import { makeProfile, writeProfile } from './make-profile.ts'
import { configFile } from './paths.ts'
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

/** Returns a word for the base that is kept in place of the usual one. Where none is usual, the name says none. */
function otherBase({ base }: FlagsOptions, { base: usual }: Instructions): readonly string[] {
  if (base === undefined || usual === undefined || base === usual) return []
  return [`base ${base === false || engineDefault(base) ? base : resolve(base)}`]
}

export const hasOnlyKeys = (options: FlagsOptions, instructions: Instructions): boolean =>
  options.profile === undefined &&
  (options.trap ?? []).length === 0 &&
  options.listener === undefined &&
  otherBase(options, instructions).length === 0

export function placeOf(
  { metadata, reach }: Pick<WantedPolicy, 'metadata' | 'reach'>,
  options: FlagsOptions,
  instructions: Instructions,
): Place {
  const { directory, ending, written } = instructions
  const { write, profile, trap = [], name, listener } = options
  const chosen = typeof write === 'string' ? resolve(write) : directory
  const words = [...metadata, ...trap.map((key) => `trap ${key}`), ...otherBase(options, instructions)]
  const there = hasOnlyKeys(options, instructions) ? written?.get(inShort(metadata)) : undefined
  const file = name ?? there ?? profileName(Object.keys(reach), words, { listener, profile })
  return { directory: chosen, file: join(chosen, `${file}${ending}`), isUsual: typeof write !== 'string' }
}

const ELSEWHERE = 'run it as root, or name a directory with --write DIR'

function makeUsual({ directory }: Place): void {
  try {
    makeDirectory(directory)
  } catch (error) {
    const why = (error as Error).message
    throw new Error(`Cannot write the profile: ${why}; ${ELSEWHERE}`)
  }
}

/** Chooses the filter that stays in force for calls that are not trapped. */
function baseFor({ name, instructions }: Told, { base: wanted }: FlagsOptions): string | undefined {
  const { base: usual, filter = `the filter of ${name}` } = instructions
  const there = usual !== undefined && (engineDefault(usual) ?? existsSync(usual)) ? usual : undefined
  const chosen = wanted === false ? undefined : (wanted ?? there)
  if (chosen === undefined)
    say(`the profile will allow all that it does not trap, in place of ${filter}; --base FILE keeps one`)
  return chosen
}

/** Writes the profile, or says what it takes. The lines for LXC that name the file are in our own output. */
export function prepareProfile(runtime: Told, wanted: WantedPolicy, options: FlagsOptions, place: Place): void {
  const { write, listener, user } = options
  const { target, elsewhere } = runtime.instructions
  if (write === undefined) {
    const missing = elsewhere ? undefined : 'is not there'
    const why = existsSync(place.file) ? whyRewrite(place.file, runtime, wanted, options) : missing
    if (why !== undefined) say(`the profile ${JSON.stringify(place.file)} ${why}: add --write`)
    return
  }
  const base = baseFor(runtime, options)
  const capAdd = base !== undefined && target && !target.resolvesGuards ? capabilitiesFor(wanted.reach) : []
  const { text } = makeProfile(wanted, { target, base, listener, user, capAdd, output: place.file })
  if (place.isUsual) makeUsual(place)
  writeProfile(text, place.file, ELSEWHERE)
}

/** Says why a file that is there may not be what was asked for. */
function whyRewrite(
  file: string,
  { instructions }: Told,
  wanted: WantedPolicy,
  options: FlagsOptions,
): string | undefined {
  const { base, profile, name, daemonConfig, user = false } = options
  const { target } = instructions
  // Only a name of ours says which base the file has.
  const isNamed = name === undefined && otherBase(options, instructions).length > 0
  if (base !== undefined && !isNamed) return 'is there already, and keeps its base'
  const isOlder = (config: string): boolean => statSync(file).mtimeMs < statSync(config).mtimeMs
  // What it traps follows from what the configuration said when it was written.
  if (profile === undefined || !isOlder(daemonConfig ?? configFile(user))) return undefined
  if (!target) return 'is older than the configuration'
  const now = makeProfile(wanted, { target, base: undefined, output: file }).text
  const isSame = orElse(false, () => traps(readText(file)) === traps(now))
  return isSame ? undefined : 'does not trap what the configuration asks for by now'
}

/** Returns the rules of a profile that trap calls. They do not depend on its base. */
const traps = (profile: string): string =>
  formatProfile((readProfile(profile).syscalls ?? []).filter(({ action }) => action === NOTIFY))

/** What a profile depends on beside its keys. */
interface Besides {
  readonly listener?: string | undefined
  /** The profile of the configuration that its metadata names. */
  readonly profile?: string | undefined
}

/**
 * Names a profile, without a file ending. Each set of keys, values, socket and base has its own name, since the file is
 * the policy of all containers that use it. Without values beyond "true", the name lists the calls and has no hash; a
 * profile of the configuration alone gives its own name, unless that ends as the files of another runtime do.
 *
 * @param families the calls that are served, as the policy names them
 * @param words every line of the metadata, what else is trapped, and another base than the usual one
 */
export function profileName(
  families: readonly string[],
  words: readonly string[],
  { listener = '', profile }: Besides = {},
): string {
  const isNamed = profile !== undefined && /^\w[\w.+-]{0,99}$/.test(profile) && !/\.(docker|containerd)$/.test(profile)
  const name = profile === undefined ? families.join('-').toLowerCase() : `profile${isNamed ? `-${profile}` : ''}`
  if (listener === '' && isPlain(families, words, isNamed)) return name
  const sorted = [...words].sort().join('\n')
  return `${name}-${createHash('sha256').update(`${listener}\n${sorted}`).digest('hex').slice(0, 8)}`
}

function isPlain(families: readonly string[], words: readonly string[], isNamed: boolean): boolean {
  if (isNamed) return words.length === 1
  // A word that is no line of the metadata has a space.
  return words.length === families.length && words.every((word) => /^[^. ]*=true$/.test(short(word)))
}

const short = (key: string): string => key.replace(/^security\.syscalls\.intercept\./, '')
