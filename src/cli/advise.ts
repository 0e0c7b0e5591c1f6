import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { basename } from 'node:path'
import { text } from 'node:stream/consumers'
import { escaped } from '../calls/escape.ts'
import { parseAssignment } from '../policy/key-value-lines.ts'
import { keyNames, keys, toKeyName } from '../policy/keys.ts'
import { parsePolicy } from '../policy/settings.ts'
import { ownProgram } from '../processes/node-programs.ts'
import { counted, fewOf, shellWord } from '../shared/texts.ts'
import { adviceOf, asOptions, formatAdvice, jsonOf, type Keys, MANNERS, wordsOf, writeAdvice } from './advice.ts'
import { adviseContainers, type ContainerOptions } from './advise-containers.ts'
import { print, say } from './print.ts'
import type { RefusedKind, RunReport } from './run-report.ts'
import { asUsage, checkUsage, NegativeAnswer, STATUS } from './usage.ts'

interface AdviseOptions {
  readonly config?: readonly string[]
  readonly write?: string
  readonly profile?: string
  readonly format?: 'table' | 'json'
}

/** What is tried without being asked for: what is only on or off is harmless in any container. */
const TRIED: Keys = new Map(
  keyNames.filter((name) => keys[name].default === 'false' && !MANNERS.has(name)).map((name) => [name, 'true']),
)

/** The descriptor on which `run` reports. */
const REPORT = 3

/** Reads the values of -c: what may be tried, too. */
function givenKeys(config: readonly string[]): Keys {
  return asUsage(() => {
    const assignments = config.map((each) => parseAssignment(each))
    parsePolicy(assignments)
    const given = assignments.map(([key, value]) => [toKeyName(key), value] as const)
    checkUsage(
      given.every(([name, value]) => name !== 'mode' || value === keys.mode.default),
      'Cannot advise in observe mode: no call is done in it, so the command does not come far; leave that key out',
    )
    return new Map(given.map(([name, value]) => [name, keys[name].canonical(value)]))
  })
}

let interrupted = false

/** Runs the command once with these keys, and waits for the report. */
async function runOnce(words: readonly string[], passed: readonly string[], all: Keys): Promise<RunReport> {
  const config = wordsOf(all).flatMap((each) => ['-c', each])
  const args = ['run', '--report', `${REPORT}`, ...passed, ...config, '--', ...words]
  // Standard output is for the advice, so that it can be kept.
  const run = spawn(...ownProgram(...args), { stdio: [0, 2, 2, 'pipe'] })
  const onTerm = (): void => {
    interrupted = true
    run.kill('SIGTERM')
  }
  // The terminal sends it to the run, too, which passes it on to the command.
  const onInterrupt = (): void => {
    interrupted = true
  }
  process.on('SIGTERM', onTerm).on('SIGINT', onInterrupt)
  try {
    const ended = once(run, 'exit')
    const report = await text(run.stdio[REPORT] as NodeJS.ReadableStream)
    const [status] = (await ended) as [number | null]
    // It has said why.
    if (report === '') process.exit(status ?? STATUS.failure)
    return JSON.parse(report) as RunReport
  } finally {
    process.off('SIGTERM', onTerm).off('SIGINT', onInterrupt)
  }
}

/** Where programs make names at random, which differ in each run. */
const TEMPORARY = /^\/(?:tmp|var\/tmp|run|dev\/shm)\//

/** What was different in the second run. */
interface Differences {
  readonly status: number
  readonly refused: readonly Omit<RefusedKind, 'kind'>[]
  readonly missing: readonly string[]
  readonly added: readonly string[]
  readonly changed: readonly string[]
}

function compare(first: RunReport, second: RunReport): Differences {
  const before = new Set(first.refused.map(({ kind }) => kind))
  const paths = (of: RunReport, isOne: (path: string) => boolean): readonly string[] =>
    Object.keys(of.files).filter((path) => !TEMPORARY.test(path) && isOne(path))
  return {
    status: second.status,
    refused: second.refused.filter(({ kind }) => !before.has(kind)).map(({ kind: _, ...told }) => told),
    missing: paths(first, (path) => second.files[path] === undefined),
    added: paths(second, (path) => first.files[path] === undefined),
    changed: paths(second, (path) => (first.files[path] ?? second.files[path]) !== second.files[path]),
  }
}

/** Says the differences, a sentence each; none if there are none. */
function sayDifferences(
  first: RunReport,
  { status, refused, missing, added, changed }: Differences,
): readonly string[] {
  const files = (paths: readonly string[], what: string): readonly string[] =>
    paths.length === 0
      ? []
      : [`${counted(paths.length, 'file')} ${what}: ${fewOf(paths.map((path) => escaped(Buffer.from(path))))}`]
  return [
    ...(status === first.status ? [] : [`the command ended with ${status} instead of ${first.status}`]),
    ...refused.map(({ call, errno = 'left to the kernel', says }) => `refused only now: ${call}: ${errno}: ${says}`),
    ...files(missing, 'not written again'),
    ...files(added, 'not there before'),
    ...files(changed, 'with another type, mode, owner or device'),
  ]
}

function formatUse(all: Keys, words: readonly string[], passed: readonly string[]): string {
  if (all.size === 0) return ''
  const command = [...passed, '--', ...words].map(shellWord).join(' ')
  return `\nintercede run${asOptions(all)} ${command}\npodman run $(intercede flags podman${asOptions(all)} --write) IMAGE\n`
}

/** @param passed options for `run`, as they were given */
export async function adviseCommand(
  words: readonly string[],
  passed: readonly string[],
  { container = [], ...options }: AdviseOptions & ContainerOptions & { readonly container?: readonly string[] },
): Promise<void> {
  const isOne = words.length > 0 !== container.length > 0
  checkUsage(isOne, 'Cannot advise: give either a command, after "--", or --container')
  if (container.length === 0) return adviseRun(words, passed, options)
  checkUsage(
    passed.length === 0 && options.config === undefined,
    'Cannot use options of a run with --container: it tells what the container has done; leave them out',
  )
  return adviseContainers(container, options)
}

/** Runs a command with all that is harmless and was given, then with just what it used, and prints what that is. */
async function adviseRun(
  words: readonly string[],
  passed: readonly string[],
  { config = [], write, profile = basename(words[0]!), format = 'table' }: AdviseOptions,
): Promise<void> {
  const given = givenKeys(config)
  const tried = new Map([...TRIED, ...given])
  say(`first run, with all that is harmless${given.size > 0 ? ' and the keys of -c' : ''}`)
  const first = await runOnce(words, passed, tried)
  const advice = adviceOf(first, given)
  const isPartial = interrupted
  if (!isPartial) say(`second run, ${advice.keys.size > 0 ? `with${asOptions(advice.keys)}` : 'without any key'}`)
  const second = isPartial ? undefined : await runOnce(words, passed, advice.keys)
  const differences = second && compare(first, second)
  if (format === 'json') print(jsonOf(advice, { status: first.status, second: differences }))
  else print(formatAdvice(advice) + formatUse(advice.keys, words, passed))
  if (write !== undefined) writeAdvice(write, profile, advice.keys)
  if (interrupted) {
    say('interrupted: this is what was used until then, and it was not tried alone')
    process.exitCode = STATUS.interrupted
    return
  }
  const told = sayDifferences(first, differences!)
  if (told.length > 0)
    throw new NegativeAnswer(`Cannot vouch for these keys: the second run differs: ${told.join('; ')}`)
  say(`both runs ended with ${first.status}, were refused the same, and wrote the same files`)
}
