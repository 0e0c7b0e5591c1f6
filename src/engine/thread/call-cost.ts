import { accountedTime, now, threadTime } from '../../kernel/clock.ts'
import { IN_TURN_MS } from './fair-share.ts'

/**
 * The maximum age, in milliseconds, of the processor time that a call starts from. Calls that follow each other closely
 * need not each ask the kernel. A call may be charged with the work of calls this short time before it.
 */
const FRESH_MS = 0.1

/**
 * Measures the processor time of one thread's calls.
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
   * Returns the processor time of the ended call in milliseconds; 0 if it was too short to matter.
   *
   * @param start `now()` when the call began
   * @param leads whether this thread leads
   */
  end(start: number, leads: boolean): number {
    const took = now() - start
    if (took <= IN_TURN_MS) return 0
    // All callers wait for the leader, so it must not lose its processor now, and `threadTime` could cause that. The
    // less exact time is enough: a leader that serves a call serves alone.
    const time = leads ? accountedTime() : threadTime()
    this.#read = Number.NEGATIVE_INFINITY
    return Math.min(took, time - this.#accounted)
  }
}
