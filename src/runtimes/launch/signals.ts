import { now } from '../../kernel/clock.ts'

/** What is passed on to the container. Terminal signals reach only us: the runtime has a session of its own. */
const FORWARDED: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2']
const ENDING = new Set<NodeJS.Signals>(['SIGINT', 'SIGTERM'])

/** Two requests to end within this time mean "now". */
const INSISTENCE_MS = 10_000

export interface SignalTargets {
  forward(signal: NodeJS.Signals): void
  kill(): void
}

/**
 * Passes signals on while it is held. An init that has no handler ignores SIGTERM by the kernel's rule, so the second
 * SIGINT or SIGTERM kills.
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
