import { now } from '../../kernel/clock.ts'

/** So often it is looked at once more without a pause: most have left by then, and to pass the lead costs more than a look. */
const LOOKS = 4
/** Each pause is twice the one before: a caller that gets no processor for long must not take ours. */
const FIRST_MS = 0.02
const LONGEST_MS = 10

/**
 * Looks until the caller sleeps, for a time.
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
    sleepMs(Math.min(FIRST_MS * 2 ** (looks - LOOKS), LONGEST_MS))
  }
}

/** Blocks this thread. */
export const sleepMs = (ms: number): void => void Atomics.wait(never, 0, 0, ms)
const never = new Int32Array(new SharedArrayBuffer(4))
