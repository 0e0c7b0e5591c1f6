import { now } from '../../kernel/clock.ts'
import { sleepSync } from '../../shared/sleep.ts'

/**
 * The number of looks without a pause: most callers have left by then, and handing over the lead costs more than a
 * look.
 */
const LOOKS = 4
/** Each pause is twice the previous one: a caller that waits long for a processor must not use ours. */
const FIRST_MS = 0.02
const LONGEST_MS = 10

/**
 * Looks until the caller sleeps, for up to `ms` milliseconds.
 *
 * @param mayBlock called before the first pause
 * @returns gone: its call no longer waits; awake: it did not sleep in that time
 */
export function waitUntilAsleep<T>(
  waits: () => boolean,
  ms: number,
  mayBlock: () => void,
  look: () => T | undefined,
): T | 'gone' | 'awake' {
  const end = now() + ms
  for (let looks = 1; ; looks++) {
    const seen = look()
    if (!waits()) return 'gone'
    if (seen !== undefined) return seen
    if (now() > end) return 'awake'
    if (looks < LOOKS) continue
    if (looks === LOOKS) mayBlock()
    sleepSync(Math.min(FIRST_MS * 2 ** (looks - LOOKS), LONGEST_MS))
  }
}
