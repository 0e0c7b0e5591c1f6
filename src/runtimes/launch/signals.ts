import { now } from '../../kernel/clock.ts'

/**
 * Signals that are passed on to the container. The terminal sends its signals only to us, since the runtime has a
 * session of its own.
 */
const FORWARDED: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2']
const ENDING = new Set<NodeJS.Signals>(['SIGINT', 'SIGTERM'])

/** Milliseconds within which a second SIGINT or SIGTERM kills the container. */
const INSISTENCE_MS = 10_000

export interface SignalTargets {
  forward(signal: NodeJS.Signals): void
  kill(): void
}

/**
 * Passes signals on until the result is disposed. By the kernel's rule an init without a handler ignores SIGTERM, so
 * a second SIGINT or SIGTERM kills.
 */
export function forwardSignals({ forward, kill }: SignalTargets): Disposable {
  let last = Number.NEGATIVE_INFINITY
  const handle = (signal: NodeJS.Signals): void => {
    const insists = ENDING.has(signal) && now() - last < INSISTENCE_MS
    if (ENDING.has(signal)) last = now()
    if (insists) kill()
    else forward(signal)
  }
  for (const signal of FORWARDED) process.on(signal, handle)
  return {
    [Symbol.dispose]() {
      for (const signal of FORWARDED) process.off(signal, handle)
    },
  }
}
