import { now } from '../../kernel/clock.ts'
import { sleepSync } from '../../shared/sleep.ts'

/**
 * How often it is looked without a pause: most callers have left by then, and to hand the lead over costs more than a
 * look.
 */
const LOOKS = 4
/** Each pause is twice the previous one: a caller that gets no processor for long must not take ours. */
const FIRST_MS = 0.02
const LONGEST_MS = 10

/**
 * Looks until the caller sleeps, for up to `ms` milliseconds.
 *
 * @param mayBlock called before the first pause
 * @returns gone: its call does not wait any more; awake: it did not sleep
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
