import { writeFileSync } from 'node:fs'
import { setImmediate as turnOver } from 'node:timers/promises'
import { openToOthers } from '../doctor/own-files.ts'
import { exitGroup } from '../kernel/process.ts'
import { requireProcfs } from '../processes/requirements.ts'
import { ociRuntimes } from '../runtimes/known/index.ts'
import { parseBind } from '../runtimes/launch/binds.ts'
import { launch } from '../runtimes/launch/launch.ts'
import { output } from '../runtimes/launch/pipes.ts'
import type { LaunchOptions } from '../runtimes/launch/plan.ts'
import { writtenFiles } from '../runtimes/launch/root.ts'
import { oneLine } from '../shared/texts.ts'
import { Refusals } from './refusals.ts'
import { interception } from './run-policy.ts'
import { RunObserver, type RunReport } from './run-report.ts'
import { asUsage, checkUsage, sentence, statusFor } from './usage.ts'

/** What `run` says of itself on standard error, beside the container's output. */
interface Notes {
  say(text: string): void
  /** Resolves when everything has been written, or nobody reads it any more. */
  end(): Promise<void>
}

/** Says it when the container has ended, since the terminal is the container's until then. */
class NotesAtEnd implements Notes {
  readonly #texts: string[] = []

  say(text: string): void {
    this.#texts.push(text)
  }

  async end(): Promise<void> {
    for (const text of this.#texts) process.stderr.write(`intercede: ${oneLine(text)}\n`)
  }
}

/** Says it at once. A reader that does not read must not stop the main thread, which passes signals on. */
class NotesAtOnce implements Notes {
  readonly #stream = output(2).on('error', () => {})
  /** A terminal is raw while the container has it: a line feed alone would not return to its left edge. */
  readonly #end = process.stderr.isTTY ? '\r\n' : '\n'

  say(text: string): void {
    this.#stream.write(`intercede: ${oneLine(text)}${this.#end}`)
  }

  end(): Promise<void> {
    return new Promise((resolve) => this.#stream.end(() => resolve()))
  }
}

interface RunOptions extends Pick<LaunchOptions, Passed> {
  readonly config?: readonly string[]
  readonly bind?: readonly string[]
  readonly device?: readonly string[]
  readonly runtime?: string
  readonly init: boolean
  readonly stopTimeout?: number
  readonly explain?: boolean
  readonly quiet?: boolean
  /** The descriptor to which `advise` wants a report written. */
  readonly report?: number
}
/** The options that are those of the launcher. */
type Passed = 'rootfs' | 'exposeHost' | 'memory' | 'net' | 'name' | 'env' | 'workdir' | 'user' | 'systemd'

/** In characters: more of a command is not listed. */
const COMMAND_LIMIT = 512

async function run(command: readonly string[], options: RunOptions, notes: Notes): Promise<number> {
  const { config = [], bind = [], device: asked = [], runtime: wanted, init, stopTimeout, ...others } = options
  const { explain = false, quiet = false, report, ...rest } = others
  checkUsage(
    rest.rootfs === undefined || !rest.exposeHost,
    'Cannot use --expose-host with --rootfs, which replaces the root of the host; leave one of them out',
  )
  const binds = bind.map((text) => asUsage(() => parseBind(text, options.systemd), Error))
  requireProcfs()
  const refusals = new Refusals(explain)
  const observer = new RunObserver()
  const say = (text: string): void => notes.say(text)
  const names = {
    ...(rest.name === undefined ? {} : { name: rest.name }),
    command: command.join(' ').slice(0, COMMAND_LIMIT),
  }
  const { hints, ...intercepted } = interception(config, names, {
    say,
    forAdvice: report !== undefined,
    record(call, args, policy) {
      if (report !== undefined && args) observer.add(call, args, policy)
      const line = refusals.add(call)
      if (line !== undefined) say(line)
    },
  })
  if (explain && intercepted.startAgent === undefined)
    say('no key is on, so no call is intercepted and none explained; turn one on, such as -c mknod')
  const devices = [...new Set([...(intercepted.devices ?? []), ...asked])]
  const runtime = ociRuntimes.find(({ name }) => name === wanted)
  const start = { runtime, binds, devices, command, bare: !init, stopSeconds: stopTimeout }
  const running = launch({ ...rest, ...intercepted, ...start, say })
  // An error is thrown below. The runtime, which is started in the same turn, works meanwhile.
  running.catch(() => {})
  await turnOver()
  const wrong = openToOthers()
  if (wrong !== undefined) say(wrong)
  const status = await running
  if (report !== undefined) {
    writeFileSync(report, JSON.stringify({ status, ...observer.seen, written: writtenFiles() } satisfies RunReport))
    return status
  }
  const told = quiet ? [] : [...refusals.lines(), ...((status !== 0 && hints?.()) || [])]
  for (const line of told) say(line)
  return status
}

/** Runs the command and exits by exit_group: a thread that waits in the kernel would block any other exit. */
export async function runCommand(words: readonly string[], options: RunOptions): Promise<never> {
  const notes = options.explain ? new NotesAtOnce() : new NotesAtEnd()
  let status: number
  try {
    status = await run(words, options, notes)
  } catch (error) {
    notes.say(sentence(error as Error, 'run'))
    status = statusFor(error)
  }
  await notes.end()
  return exitGroup(status)
}
