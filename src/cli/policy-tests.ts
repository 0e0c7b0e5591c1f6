import { dirname, resolve } from 'node:path'
import * as v from 'valibot'
import { errnos } from '../abi/errno.ts'
import { CallSyntaxError, callOfFields, type ParsedCall, parseCall } from '../calls/parse-call.ts'
import { type ReasonCode, reasonCodes } from '../calls/reasons.ts'
import { type Config, parseConfig } from '../policy/config.ts'
import { type Place, PolicyError } from '../policy/error.ts'
import type { KeyValueLine } from '../policy/key-value-lines.ts'
import type { Policy } from '../policy/policy.ts'
import { clamp, type Settings, settle, toPolicy } from '../policy/settings.ts'
import {
  checkTypes,
  Flaws,
  keyMapOf,
  mapOf,
  type Path,
  parseYaml,
  scalar,
  toEntries,
  type Where,
} from '../policy/yaml-file.ts'
import { readText } from '../runtimes/text-file.ts'
import { briefly, didYouMean, fewOf } from '../shared/texts.ts'
import { type CallerDescription, CallerFacts } from '../syscalls/caller-facts.ts'
import { configFile } from './paths.ts'
import { asUsage, UsageError } from './usage.ts'

const OUTCOME = /^(done|left|error(?: (E[A-Z0-9]+))?)$/
const isOutcome = (text: string): boolean => {
  const [, , errno] = OUTCOME.exec(text) ?? []
  return OUTCOME.test(text) && (errno === undefined || Object.hasOwn(errnos, errno))
}
const OUTCOMES = 'done, left, or error with an errno such as "error EINVAL"'
const fields = mapOf(v.record(v.string(), scalar), 'a map of values')
const CALL = 'a call such as mknod("null", S_IFCHR|0666, 1:3), or a map of syscall and its arguments'
const described = <S extends v.GenericSchema>(schema: S, says: string) =>
  v.exactOptional(v.pipe(schema, v.description(says)))

/** What must be given. It has a value for one that is missing or wrong, so that the rest is checked too. */
const needed = <S extends v.GenericSchema<string | object>>(schema: S, instead: v.InferInput<S>, says: string) =>
  v.optional(v.pipe(schema, v.description(says)), instead as never)

const Case = mapOf(
  v.strictObject({
    name: described(v.string('a text'), 'what the case shows; by default the call'),
    call: needed(
      v.union([v.string(), fields], CALL),
      'sysinfo(NULL)',
      'the call, as strace(1) and "intercede events" print it; or the name in syscall, and the arguments by their names',
    ),
    caller: described(CallerFacts, 'what is different about the caller in this case'),
    expect: needed(v.pipe(v.string(OUTCOMES), v.check(isOutcome, OUTCOMES)), 'done', `the outcome: ${OUTCOMES}`),
    reason: described(
      v.picklist(
        reasonCodes,
        ({ input }) => `a code that intercede-reasons(7) lists${didYouMean(String(input), reasonCodes)}`,
      ),
      'the code of the reason',
    ),
    act: described(fields, 'the verb of the act, and those of its members that matter'),
  }),
  'a map of name, call, caller, expect, reason and act',
)

const shape = {
  policy: described(keyMapOf('a map of keys'), 'the keys of the policy, as in a profile; over those of the profile'),
  profile: described(v.string('a text'), 'the profile of the configuration that is tested'),
  config: described(v.string('a path'), 'the configuration with that profile, relative to this file'),
  caller: described(CallerFacts, 'the caller of all cases; by default root of a container with all capabilities'),
  tests: needed(
    v.pipe(
      v.array(Case, 'a list of cases'),
      v.check((cases) => cases.length > 0, 'a list of at least one case'),
    ),
    [{}],
    'the cases',
  ),
}
/** A file of policy tests, as YAML has read it. */
export const PolicyTestFile = mapOf(v.strictObject(shape), `a map of ${Object.keys(shape).join(', ')}`)

export interface Expected {
  readonly outcome: string
  readonly errno?: string
  readonly reason?: ReasonCode
  readonly act?: Readonly<Record<string, string>>
}

export interface PolicyTest {
  readonly file: string
  readonly line: number
  readonly name: string
  readonly call: ParsedCall
  readonly caller: CallerDescription
  readonly expected: Expected
  readonly policy: Policy
}

/** Which policy is tested, instead of the one that a file names. */
export interface TestedPolicy {
  readonly profile?: string | undefined
  readonly daemonConfig?: string | undefined
}

/** What a device of a list is on this host does not matter: a test says the same on every machine. */
const NOBODY = () => []

function readWith(path: string): string {
  try {
    return readText(path)
  } catch (error) {
    throw new UsageError(`Cannot read ${JSON.stringify(path)}: ${(error as Error).message}`)
  }
}

/**
 * Returns what a profile and keys over it mean. Without a profile only what the keys say is on.
 *
 * @param config the path of the configuration; undefined for the daemon's
 * @throws {PolicyError}
 */
export function settingsOf(
  { profile, config }: { readonly profile: string | undefined; readonly config: string | undefined },
  keys: readonly KeyValueLine[],
  place: Place = {},
): Settings {
  const file = config ?? (profile === undefined ? undefined : configFile(false))
  const { default: all, profiles, ceiling } = file === undefined ? parseConfig('', '') : readConfig(file)
  const chosen = profile === undefined ? [] : profiles.get(profile)
  if (!chosen) {
    const hint =
      didYouMean(profile!, profiles.keys()) || `; ${JSON.stringify(file)} has ${fewOf([...profiles.keys()]) || 'none'}`
    throw new PolicyError(`unknown profile ${briefly(profile)}`, place, hint)
  }
  return clamp(settle([...all, ...chosen, ...keys]), ceiling)
}

const policyOf = (...what: Parameters<typeof settingsOf>): Policy => toPolicy(settingsOf(...what), NOBODY)

const readConfig = (file: string): Config => asUsage(() => parseConfig(readWith(file), file, NOBODY))

const texts = (given: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(given).map(([name, value]) => [name, String(value)]))

function expectedOf({ expect, reason, act }: v.InferOutput<typeof Case>): Expected {
  const [, outcome = '', errno] = OUTCOME.exec(expect) ?? []
  return {
    outcome: outcome.replace(/ .*/, ''),
    ...(errno === undefined ? {} : { errno }),
    ...(reason === undefined ? {} : { reason }),
    ...(act === undefined ? {} : { act: texts(act) }),
  }
}

/**
 * Reads a file of policy tests.
 *
 * @throws {UsageError} that says all that is wrong in it, with lines and columns
 */
export function readTests(file: string, tested: TestedPolicy): readonly PolicyTest[] {
  const text = readWith(file)
  try {
    return parseTests(text, file, tested)
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    throw new UsageError(`Cannot read the tests ${JSON.stringify(file)}: ${error.flaw}`)
  }
}

/** @throws {PolicyError} */
export function parseTests(text: string, file: string, tested: TestedPolicy = {}): readonly PolicyTest[] {
  const [given, where] = parseYaml(text, file, true)
  const flaws = new Flaws(file)
  checkHas(given, where, flaws)
  const read = checkTypes(PolicyTestFile, given, { where, flaws })
  const keys = toEntries(read.policy ?? {}, { kind: 'given' }, ['policy'], where, flaws)
  const config = read.config === undefined ? undefined : resolve(dirname(file), read.config)
  const calls = read.tests.map(({ call }, index) => flaws.in(() => callIn(call, () => where(['tests', index, 'call']))))
  const [policy] = flaws.in(() =>
    tested.profile === undefined
      ? policyOf({ profile: read.profile, config: tested.daemonConfig ?? config }, keys, where(['profile']))
      : policyOf({ profile: tested.profile, config: tested.daemonConfig ?? config }, []),
  )
  flaws.throw()
  return read.tests.map((each, index) => {
    const call = calls[index]![0]!
    return {
      ...{ file, line: where(['tests', index]).line ?? 0, name: each.name ?? call.text, call },
      caller: { ...read.caller, ...each.caller },
      expected: expectedOf(each),
      policy: policy!,
    }
  })
}

/** Checks that a file has what it must have. */
function checkHas(given: unknown, where: Where, flaws: Flaws): void {
  const lacks = (of: unknown, names: readonly string[], path: Path): void => {
    if (typeof of !== 'object' || of === null || Array.isArray(of)) return
    for (const name of names.filter((each) => !Object.hasOwn(of, each)))
      flaws.in(() => {
        throw new PolicyError(`${path.join('.') || 'the file'} lacks ${JSON.stringify(name)}`, where(path))
      })
  }
  lacks(given, ['tests'], [])
  const { tests } = given as { readonly tests?: unknown }
  if (Array.isArray(tests))
    for (const [index, each] of tests.entries()) lacks(each, ['call', 'expect'], ['tests', index])
}

function callIn(given: string | Readonly<Record<string, unknown>>, place: () => PolicyError['place']): ParsedCall {
  try {
    return parseCall(typeof given === 'string' ? given.trim() : callOfFields(texts(given)))
  } catch (error) {
    if (!(error instanceof CallSyntaxError)) throw error
    throw new PolicyError('cannot read the call', place(), `: ${error.message}`)
  }
}
