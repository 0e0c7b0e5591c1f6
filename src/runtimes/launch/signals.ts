import { now } from '../../kernel/clock.ts'
import { processGroups } from '../../kernel/process.ts'

/**
 * Signals that are passed on to the container. The terminal sends its signals only to us, since the runtime has a
 * session of its own.
 */
const FORWARDED: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2']

/** Milliseconds within which the same signal is one request: npx passes on what the terminal has sent to us, too. */
const ECHO_MS = 100

export interface SignalTargets {
  forward(signal: NodeJS.Signals): unknown
  kill(): void
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
 *
 * @param patienceMs milliseconds from the first request until the container is killed
 */
export function forwardSignals({ forward, kill }: SignalTargets, patienceMs: number): Disposable {
  const isEnding = endingSignals()
  let first: { readonly at: number; readonly timer: NodeJS.Timeout } | undefined
  const handle = (signal: NodeJS.Signals): void => {
    const isRequest = isEnding(signal)
    if (isRequest && first !== undefined) {
      if (now() - first.at > ECHO_MS) kill()
      return
    }
    if (isRequest) first = { at: now(), timer: setTimeout(kill, patienceMs) }
    forward(signal)
  }
  for (const signal of FORWARDED) process.on(signal, handle)
  return {
    [Symbol.dispose]() {
      clearTimeout(first?.timer)
      for (const signal of FORWARDED) process.off(signal, handle)
    },
  }
}
