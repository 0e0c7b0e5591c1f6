import { now } from '../../kernel/clock.ts'
import { orElse } from '../../kernel/error.ts'
import { isStopped, processGroups } from '../../kernel/process.ts'
import type { Cgroup } from './cgroup.ts'
import { withFormerSettings } from './terminal.ts'

/**
 * Signals that are passed on to the container. The terminal sends its signals only to us, since the runtime has a
 * session of its own.
 */
const FORWARDED: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2']

/** Milliseconds within which the same signal is one request: npx passes on what the terminal has sent to us, too. */
const ECHO_MS = 100

interface SignalTargets {
  forward(signal: NodeJS.Signals | number): unknown
  kill(): void
}

interface EndOptions {
  /** Milliseconds from the first request until the container is killed. */
  readonly patienceMs: number
  /** The signal that asks the command to end; undefined if it is the one that we get. */
  readonly end: number | undefined
}

const hasTerminalNow = (): boolean => processGroups('self').foreground !== 0

/** Returns a function that tells whether a signal asks for the end: SIGHUP does so only if the terminal is gone. */
function endingSignals(): (signal: NodeJS.Signals) => boolean {
  const hadTerminal = hasTerminalNow()
  return (signal) =>
    signal === 'SIGINT' || signal === 'SIGTERM' || (signal === 'SIGHUP' && hadTerminal && !hasTerminalNow())
}

/**
 * Passes signals on until the result is disposed. The command may ignore the request to end: a second request kills
 * the container, and so does the time after the first.
 */
export function forwardSignals({ forward, kill }: SignalTargets, { patienceMs, end }: EndOptions): Disposable {
  const isEnding = endingSignals()
  let first: { readonly at: number; readonly timer: NodeJS.Timeout } | undefined
  const handle = (signal: NodeJS.Signals): void => {
    const isRequest = isEnding(signal)
    if (isRequest && first !== undefined) {
      if (now() - first.at > ECHO_MS) kill()
      return
    }
    if (isRequest) first = { at: now(), timer: setTimeout(kill, patienceMs) }
    forward(isRequest && end !== undefined ? end : signal)
  }
  for (const signal of FORWARDED) process.on(signal, handle)
  return {
    [Symbol.dispose]() {
      clearTimeout(first?.timer)
      for (const signal of FORWARDED) process.off(signal, handle)
    },
  }
}

/**
 * Returns the process group in the foreground of the container's terminal, if it is stopped. A shell in the container
 * takes the foreground back from a job that stops; where none does, nobody in the container would continue the group.
 */
function stoppedGroup(init: number | undefined): number | undefined {
  if (init === undefined) return undefined
  const { foreground } = processGroups(init)
  return foreground > 0 && isStopped(foreground) ? foreground : undefined
}

function continueGroup(group: number | undefined): void {
  if (group === undefined) return
  // The group has ended.
  orElse(undefined, () => process.kill(-group, 'SIGCONT'))
}

/** Milliseconds after Ctrl-Z within which a shell in the container takes the foreground back. */
const SETTLE_MS = 250

/**
 * Stops the container when our job is stopped by SIGTSTP, as by Ctrl-Z, and lets it go on with us.
 *
 * @param init returns the container's init, if it has started
 */
export class Suspension implements Disposable {
  readonly #cgroup: Cgroup
  readonly #init: () => number | undefined

  constructor(cgroup: Cgroup, init: () => number | undefined) {
    this.#cgroup = cgroup
    this.#init = init
    process.on('SIGTSTP', this.#suspend)
  }

  readonly #suspend = (): void => {
    withFormerSettings(() => {
      this.#cgroup.freeze(true)
      process.off('SIGTSTP', this.#suspend)
      // The kernel stops us here, but not if we are in an orphaned process group, which no shell would continue.
      process.kill(process.pid, 'SIGTSTP')
      process.on('SIGTSTP', this.#suspend)
      this.#cgroup.freeze(false)
    })
    continueGroup(stoppedGroup(this.#init()))
  }

  /** Suspends our own job if the key that the container's terminal just got has stopped what it runs. */
  afterKey(): void {
    setTimeout(() => {
      if (stoppedGroup(this.#init()) !== undefined) process.kill(0, 'SIGTSTP')
    }, SETTLE_MS).unref()
  }

  [Symbol.dispose](): void {
    process.off('SIGTSTP', this.#suspend)
  }
}
