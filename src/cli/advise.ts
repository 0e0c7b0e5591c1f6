import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'
import { basename } from 'node:path'
import { text } from 'node:stream/consumers'
import { orElse } from '../kernel/error.ts'
import { parseAssignment } from '../policy/key-value-lines.ts'
import { keyNames, keys, toKeyName } from '../policy/keys.ts'
import { parsePolicy } from '../policy/settings.ts'
import { ownProgram } from '../processes/node-programs.ts'
import { counted, shellWord } from '../shared/texts.ts'
import {
  adviceOf,
  asOptions,
  formatAdvice,
  jsonOf,
  type Keys,
  MANNERS,
  requireAbsent,
  wordsOf,
  writeAdvice,
} from './advice.ts'
import { adviseContainers, type ContainerOptions } from './advise-containers.ts'
import { print, say } from './print.ts'
import { compare, type Differences, sayDifferences } from './run-differences.ts'
import type { RunReport } from './run-report.ts'
import { asUsage, checkUsage, NegativeAnswer, STATUS } from './usage.ts'

interface AdviseOptions {
  readonly config?: readonly string[]
  readonly write?: string
  readonly profile?: string
  readonly format?: 'table' | 'json'
}

/**
 * What is tried without being asked for: what is only on or off is harmless in any container, and so is a nice value by
 * which it is seen what a lower one would take. Without a list, most calls that set attributes are not even seen.
 */
const TRIED: Keys = new Map([
  ...keyNames
    .filter((name) => keys[name].default === 'false' && !MANNERS.has(name))
    .map((name) => [name, 'true'] as const),
  ['sched_setscheduler.min_nice', '-1'],
  ['setxattr.allowed', 'trusted.intercede.advise'],
  ['rlimits.allowed', 'locks=0'],
])

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

/** Signals that end a command: `run` passes each on to it. */
const ENDS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const
/** Statuses of a command that a key of its terminal has ended. */
const BY_KEY = [128 + constants.signals.SIGINT, 128 + constants.signals.SIGQUIT]

let interrupted = false

/** How a run ended: with a report, or as its process did. */
type Ran = { readonly report: RunReport } | { readonly status: number | null; readonly signal: string | null }

/** Runs the command once with these keys. */
async function runOnce(words: readonly string[], passed: readonly string[], all: Keys): Promise<Ran> {
  const config = wordsOf(all).flatMap((each) => ['-c', each])
  const args = ['run', '--report', `${REPORT}`, ...passed, ...config, '--', ...words]
  // Standard output is for the advice, so that it can be kept.
  const run = spawn(...ownProgram(...args), { stdio: [0, 2, 2, 'pipe'] })
  // The terminal may have sent it to the run, too, which takes two at once for one.
  const pass = (signal: NodeJS.Signals): void => {
    interrupted = true
    run.kill(signal)
  }
  for (const signal of ENDS) process.on(signal, pass)
  try {
    const ended = once(run, 'exit')
    const said = await text(run.stdio[REPORT] as NodeJS.ReadableStream)
    const [status, signal] = (await ended) as [number | null, string | null]
    const report = orElse(undefined, () => JSON.parse(said) as RunReport)
    if (!report) return { status, signal }
    // While the terminal is the container's, a key ends the command and nobody else.
    if (process.stdin.isTTY && BY_KEY.includes(report.status)) interrupted = true
    return { report }
  } finally {
    for (const signal of ENDS) process.off(signal, pass)
  }
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
  if (container.length === 0) {
    const isRead = options.feed !== undefined || options.history !== undefined
    checkUsage(!isRead, 'Cannot use --feed or --history with a command: they are for --container; leave them out')
    return adviseRun(words, passed, options)
  }
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
  if (write !== undefined) requireAbsent(write)
  const given = givenKeys(config)
  say(`first run, with all that is harmless${given.size > 0 ? ' and the keys of -c' : ''}`)
  const ran = await runOnce(words, passed, new Map([...TRIED, ...given]))
  if (!('report' in ran)) return noAdvice(ran)
  const first = ran.report
  const advice = adviceOf(first, given)
  const again = interrupted ? undefined : await runAgain(words, passed, advice.keys)
  const second = again && 'report' in again ? again.report : undefined
  const differences = second && compare(first, second)
  if (format === 'json') print(jsonOf(advice, { status: first.status, second: differences }))
  else
    print(
      `${formatAdvice(advice, 'To try one of these too, give it with -c.\n')}${formatUse(advice.keys, words, passed)}`,
    )
  if (write !== undefined) writeAdvice(write, profile, advice.keys)
  if (interrupted) {
    say('interrupted: this is what was used until then, and it was not tried alone')
    process.exitCode = STATUS.interrupted
  } else if (!second || !differences)
    throw new Error(`Cannot vouch for these keys: the second run ${howEnded(again as Ended)}`)
  else vouch(first, second, differences)
}

function runAgain(words: readonly string[], passed: readonly string[], all: Keys): Promise<Ran> {
  say(`second run, ${all.size > 0 ? `with${asOptions(all)}` : 'without any key'}`)
  return runOnce(words, passed, all)
}

type Ended = Exclude<Ran, { readonly report: RunReport }>
const howEnded = ({ status, signal }: Ended): string =>
  signal === null ? `ended with ${status}` : `was ended by ${signal}`

/** @throws {Error} unless the run has said itself why it did not start */
function noAdvice(ended: Ended): void {
  if (ended.status === null) throw new Error(`Cannot advise: the run ${howEnded(ended)}`)
  process.exitCode = interrupted ? STATUS.interrupted : ended.status
}

/** Says that both runs did the same, as far as that was compared. @throws {NegativeAnswer} if they did not */
function vouch(first: RunReport, second: RunReport, differences: Differences): void {
  const told = sayDifferences(first, differences)
  if (told.length > 0)
    throw new NegativeAnswer(`Cannot vouch for these keys: the second run differs: ${told.join('; ')}`)
  const isWhole = first.written.isWhole && second.written.isWhole
  const files = isWhole ? '' : ', as far as they were compared: there are too many'
  const renamed = Object.keys(differences.renamed).length
  const random = renamed === 0 ? '' : `, but for ${counted(renamed, 'name')} that each run makes at random`
  say(
    `both runs ended with ${first.status}; the second was refused nothing new, and left the same names outside /tmp, /var/tmp, /run and /dev/shm${random}${files}`,
  )
}
