import { setTimeout as sleep } from 'node:timers/promises'

/** Interval of polling in milliseconds: short beside the 20 ms that a runtime takes until it sends. */
const POLL_MS = 2

/** Calls `ask` repeatedly until it returns a value or the runtime has ended. */
export async function pollUntil<T>(ask: () => T | undefined, ended: () => boolean): Promise<T | undefined> {
  for (;;) {
    const isLast = ended()
    const answer = ask()
    if (answer !== undefined || isLast) return answer
    await sleep(POLL_MS)
  }
}
