import { accountedTime, now, threadTime } from '../../kernel/clock.ts'
import { IN_TURN_MS } from './fair-share.ts'

/**
 * How old the processor time may be, in milliseconds, from which a call counts: calls that come one right after the
 * other need not each ask the kernel. A call that was served that long before it may be charged with it.
 */
const FRESH_MS = 0.1

/**
 * Tells how much processor time the calls of one thread take.
 *
 * Invariant: an object belongs to one thread, which alone calls it.
 */
export class CallCost {
  /** The thread's processor time, and when it was read, both in milliseconds. */
  #accounted = 0
  #read = Number.NEGATIVE_INFINITY

  /** A call begins. @param time `now()` */
  begin(time: number): void {
    if (time - this.#read < FRESH_MS) return
    this.#read = time
    this.#accounted = accountedTime()
  }

  /**
   * Returns how many milliseconds of processor time the call took that has ended; 0 if it was so short that it does not
   * matter.
   *
   * @param start `now()` when the call began
   * @param leads whether this thread leads
   */
  end(start: number, leads: boolean): number {
    const took = now() - start
    if (took <= IN_TURN_MS) return 0
    // All callers wait for the leader, so it must not lose its processor now, as `threadTime` may let it. The less
    // exact time is enough: a leader that serves a call serves alone.
    const time = leads ? accountedTime() : threadTime()
    this.#read = Number.NEGATIVE_INFINITY
    return Math.min(took, time - this.#accounted)
  }
}
