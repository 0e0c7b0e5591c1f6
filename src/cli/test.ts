import { escaped, printable, shownJson } from '../calls/escape.ts'
import { CallSyntaxError, numberIn, parseCall } from '../calls/parse-call.ts'
import { explain, type Reason } from '../calls/reasons.ts'
import { wantedKey } from '../memories/refusal-view.ts'
import { type KeyValueLine, parseAssignment } from '../policy/key-value-lines.ts'
import { keys } from '../policy/keys.ts'
import { type Settings, toPolicy } from '../policy/settings.ts'
import { briefly, counted } from '../shared/texts.ts'
import type { CallerDescription } from '../syscalls/caller-facts.ts'
import { type CallDecision, decideFor, MissingFact } from '../syscalls/described-caller.ts'
import { FORMATS, type TEST_FORMATS } from './formats.ts'
import { formatRows, parseFormat } from './output-format.ts'
import { configFileIfThere } from './paths.ts'
import { type Expected, type PolicyTest, readTests, settingsOf, type TestedPolicy } from './policy-tests.ts'
import { print } from './print.ts'
import { asUsage, checkUsage, STATUS, UsageError } from './usage.ts'

/** What became of one case. */
export interface TestResult {
  readonly test: PolicyTest
  /** Undefined if a fact is missing: `missing` says which. */
  readonly decision?: CallDecision
  readonly missing?: string
  /** Why it fails; empty if it passes. */
  readonly fails: readonly string[]
}

const isSame = (one: string, other: string | undefined): boolean => {
  if (one === other || other === undefined) return one === other
  const number = numberIn(one)
  return number !== undefined && number === numberIn(other)
}

/** Returns which members of what is expected are otherwise. */
function differences({ outcome, errno, reason, act = {} }: Expected, decision: CallDecision): readonly string[] {
  return [
    ...(outcome === decision.outcome ? [] : ['outcome']),
    ...(errno === undefined || errno === decision.errno ? [] : ['errno']),
    ...(reason === undefined || reason === decision.why.code ? [] : ['reason']),
    ...Object.entries(act).flatMap(([name, value]) => (isSame(value, decision.act?.[name]) ? [] : [`act.${name}`])),
  ]
}

/** Runs one case. */
export function runTest(test: PolicyTest): TestResult {
  try {
    const decision = decideFor(test.call, test.caller, test.policy)
    return { test, decision, fails: differences(test.expected, decision) }
  } catch (error) {
    if (!(error instanceof MissingFact)) throw error
    return { test, missing: error.message, fails: ['nothing is decided'] }
  }
}

const shownFields = (act: Readonly<Record<string, string>>): string =>
  `{ ${Object.entries(act)
    .map((pair) => pair.join(': '))
    .join(', ')} }`

const shown = ({ outcome, errno, reason, act }: Expected): string =>
  [outcome, ...(errno ? [errno] : []), ...(reason ? [`[${reason}]`] : []), ...(act ? [shownFields(act)] : [])].join(' ')

/** Writes a description as a file would have it. */
const shownCaller = (caller: CallerDescription): string =>
  Object.keys(caller).length === 0
    ? 'root of an ordinary container'
    : JSON.stringify(caller).replaceAll('"', '').slice(1, -1).replaceAll(',', ', ')

const actualOf = ({ decision, missing = '' }: TestResult): string =>
  decision ? shown({ ...decision, reason: decision.why.code }) : missing

/** Returns what is said of a case that fails, by names, in the order in which people read it. */
function detailsOf(result: TestResult): readonly (readonly [name: string, text: string])[] {
  const { test, decision, fails } = result
  return [
    ['call', test.call.text],
    ['caller', shownCaller(test.caller)],
    ['expected', shown(test.expected)],
    ['actual', actualOf(result)],
    ...(decision ? [['differs', fails.join(', ')] as const] : []),
    ...(decision ? explained(decision) : []),
  ]
}

/** Returns why a call has its outcome, what to do, and what was assumed. */
function explained(decision: CallDecision, settings?: Settings): readonly (readonly [string, string])[] {
  const { says, remedy, assumed, isUntrapped } = rowOf(decision, settings)
  return [
    ...(isUntrapped
      ? [['why', 'a filter for this policy does not trap the call: the kernel has it at once'] as const]
      : [['why', says] as const, ...(remedy ? [['what to do', remedy] as const] : [])]),
    ...(assumed.length > 0 ? [['assumed', assumed.join('; ')] as const] : []),
  ]
}

const lines = (details: readonly (readonly [string, string])[]): readonly string[] =>
  details.map(([name, text]) => `  ${name}:  ${printable(text)}`)

const isFailed = ({ fails }: TestResult): boolean => fails.length > 0
const placeOf = ({ file, line }: PolicyTest): string => `${file}:${line}`

function asTable(results: readonly TestResult[]): string {
  const failed = results.filter(isFailed)
  const blocks = failed.map((result) =>
    [printable(`${placeOf(result.test)}: ${result.test.name}`), ...lines(detailsOf(result)), ''].join('\n'),
  )
  const passed = results.length - failed.length
  return `${[...blocks, `${counted(passed, 'case')} passed, ${failed.length} failed`].join('\n')}\n`
}

/** TAP version 14, testanything.org. */
function asTap(results: readonly TestResult[]): string {
  const points = results.flatMap((result, index) => {
    const { test } = result
    const name = escaped(`${test.file}: ${test.name}`).replaceAll('#', '\\#')
    if (!isFailed(result)) return [`ok ${index + 1} - ${name}`]
    const details = [['at', placeOf(test)] as const, ...detailsOf(result)]
    return [
      `not ok ${index + 1} - ${name}`,
      '  ---',
      ...details.map(([key, text]) => `  ${key.replaceAll(' ', '_')}: ${JSON.stringify(escaped(text))}`),
      '  ...',
    ]
  })
  return `${['TAP version 14', `1..${results.length}`, ...points].join('\n')}\n`
}

const xml = (text: string): string => printable(text).replaceAll(/[<>&"]/g, (sign) => `&#${sign.charCodeAt(0)};`)

/** The XML that Jenkins and others read: a suite for each file. */
function asJunit(results: readonly TestResult[]): string {
  const files = [...new Set(results.map(({ test }) => test.file))]
  const suites = files.flatMap((file) => {
    const own = results.filter(({ test }) => test.file === file)
    const cases = own.flatMap((result) => {
      const { name, line } = result.test
      const begin = `    <testcase name="${xml(name)}" classname="${xml(file)}" file="${xml(file)}" line="${line}"`
      if (!isFailed(result)) return [`${begin}/>`]
      const message = `expected ${shown(result.test.expected)}, got ${actualOf(result)}`
      return [
        `${begin}>`,
        `      <failure message="${xml(message)}">${xml(lines(detailsOf(result)).join('; '))}</failure>`,
        '    </testcase>',
      ]
    })
    const counts = `tests="${own.length}" failures="${own.filter(isFailed).length}"`
    return [`  <testsuite name="${xml(file)}" ${counts}>`, ...cases, '  </testsuite>']
  })
  return `${['<?xml version="1.0" encoding="UTF-8"?>', '<testsuites>', ...suites, '</testsuites>'].join('\n')}\n`
}

/** Returns what to do where a ceiling is below what would allow the call: what is above it is lowered. */
function underCeiling(why: Reason, settings: Settings, remedy: string): string {
  const wants = wantedKey(why)
  const { ceiling, asked } = (wants && settings.get(wants.key)) ?? {}
  if (!wants || ceiling === undefined || keys[wants.key].lowers(ceiling, wants.value)) return remedy
  const raise = `raise the ceiling of ${wants.key} in the configuration: ${JSON.stringify(ceiling)} is below ${JSON.stringify(wants.value)}`
  return asked !== undefined && keys[wants.key].lowers(asked, wants.value) ? raise : `${raise}; then ${remedy}`
}

/** Returns a decision as readers get it, with the code, sentence and remedy of its reason. */
function rowOf({ why, ...rest }: CallDecision, settings?: Settings) {
  const { says, remedy } = explain(why)
  return { ...rest, reason: why.code, says, remedy: settings ? underCeiling(why, settings, remedy) : remedy }
}

const asJson = (results: readonly TestResult[]): string =>
  `${shownJson(
    results.map((result) => {
      const { test, decision, missing } = result
      const { file, line, name, call, caller, expected } = test
      const actual = decision ? rowOf(decision) : { missing }
      return { file, line, name, ok: !isFailed(result), call: call.text, caller, expected, actual }
    }),
  )}\n`

const writers = { table: asTable, tap: asTap, junit: asJunit, json: asJson } as const satisfies Record<
  (typeof TEST_FORMATS)[number],
  (results: readonly TestResult[]) => string
>

/** Writes results in a format of --format. */
export const formatResults = (format: keyof typeof writers, results: readonly TestResult[]): string =>
  writers[format](results)

interface TestOptions extends TestedPolicy {
  readonly format: keyof typeof writers
}

export function testCommand(files: readonly string[], options: TestOptions): void {
  checkUsage(files.length > 0, 'Cannot run policy tests: no file is named; name one, or use --from-records')
  const results = files.flatMap((file) => readTests(file, options)).map(runTest)
  print(formatResults(options.format, results))
  if (results.some(isFailed)) process.exitCode = STATUS.no
}

interface IfOptions extends TestedPolicy {
  readonly if: string
  readonly config?: readonly string[]
  readonly format?: string
  /** These three are for what has happened. */
  readonly since?: number
  readonly feed?: string
  readonly history?: string
}

/** Answers what would become of a call of root in an ordinary container. */
export function explainIfCommand(word: string | undefined, options: IfOptions): void {
  checkUsage(
    word === undefined,
    `Cannot use ${briefly(word)} with --if: it explains a call that nobody made; leave it out`,
  )
  const { if: text, config = [], profile, daemonConfig, format: shape, since, feed, history } = options
  const [useless] = Object.entries({ since, feed, history }).filter(([, value]) => value !== undefined)
  checkUsage(
    useless === undefined,
    `Cannot use --${useless?.[0]} with --if: nothing is read but the configuration, which --daemon-config names; leave it out`,
  )
  const format = parseFormat(shape, FORMATS.explain)
  const given = asUsage(() => config.map((each): KeyValueLine => parseAssignment(each)))
  const file = daemonConfig ?? configFileIfThere(false)
  const settings = asUsage(() => settingsOf({ profile, config: file }, given))
  const decision = answer(text, toPolicy(settings))
  const { outcome: verdict, errno, reason, says, remedy, assumed, isUntrapped } = rowOf(decision, settings)
  const row = {
    ...{ call: text, verdict, ...(errno ? { errno } : {}), reason, says, ...(remedy ? { remedy } : {}), assumed },
    ...(isUntrapped ? { isUntrapped } : {}),
  }
  print(
    formatRows(
      format,
      () => [row],
      () =>
        [
          printable(text),
          `  ${verdict}${errno ? ` with ${errno}` : verdict === 'left' ? ' to the kernel' : ''} [${reason}]`,
          ...lines(explained(decision, settings)),
          '',
        ].join('\n'),
    ),
  )
}

/** @throws {UsageError} if it is no call, or cannot be decided without more facts */
function answer(text: string, policy: PolicyTest['policy']): CallDecision {
  try {
    return decideFor(parseCall(text.trim()), {}, policy)
  } catch (error) {
    if (error instanceof CallSyntaxError)
      throw new UsageError(`Cannot read the call ${briefly(text)}: ${error.message}`)
    if (error instanceof MissingFact)
      throw new UsageError(
        `Cannot decide ${briefly(text)}: ${error.message}; "intercede test" takes a described caller`,
      )
    throw error
  }
}
