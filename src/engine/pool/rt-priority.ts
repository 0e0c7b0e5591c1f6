import { readdirSync } from 'node:fs'
import type { Tid } from '../../abi/brand.ts'
import { errnos } from '../../abi/errno.ts'
import { SCHED, type SchedAttr } from '../../abi/sched.ts'
import { SyscallError } from '../../kernel/error.ts'
import { currentTid } from '../../kernel/process.ts'
import { schedulingOf } from '../../kernel/sched.ts'
import type { Lanes } from '../thread/lane.ts'

const HIGHEST = 99
/** Is a task with this before all tasks below that real-time priority already? */
const outranks = ({ policy, priority }: SchedAttr, wanted: number): boolean =>
  policy === SCHED.DEADLINE || priority >= wanted

/**
 * Keeps the engine above the real-time priorities that its containers may give: two tasks that spin at 99 stalled every
 * other container for 385 ms. Only as long as there is such a container, and no higher than needed, since the engine then
 * runs before the host's own tasks of a lower priority.
 *
 * All threads of the process, also those of V8 and libuv: the collector of an engine thread waits for them. But for an engine
 * thread in the slow lane, which does what may take long for a container that may itself give no priority.
 */
export class RtPriority {
  /** By container: the highest priority that it may give. */
  readonly #given = new Map<number, number>()
  readonly #fault: (message: string) => void
  readonly #lanes: Lanes
  /** How the process was started: an administrator may have given it a priority. */
  readonly #usual = schedulingOf(currentTid())

  constructor(lanes: Lanes, fault: (message: string) => void) {
    this.#fault = fault
    this.#lanes = lanes
    lanes.start(this.#usual)
  }

  /** @param highest undefined: it may give none */
  admit(container: number, highest: number | undefined): void {
    if (highest !== undefined) this.#given.set(container, highest)
    this.#settle()
  }

  forget(container: number): void {
    if (this.#given.delete(container)) this.#settle()
  }

  /** For threads that were started meanwhile. */
  renew(): void {
    if (this.#lanes.priority > 0) this.#apply()
  }

  #settle(): void {
    const needed = this.#given.size > 0 ? Math.min(HIGHEST, 1 + Math.max(...this.#given.values())) : 0
    const wanted = outranks(this.#usual, needed) ? 0 : needed
    if (wanted === this.#lanes.priority) return
    this.#lanes.priority = wanted
    this.#apply()
  }

  #apply(): void {
    try {
      for (const tid of readdirSync('/proc/self/task')) this.#schedule(Number(tid) as Tid)
    } catch (error) {
      this.#lanes.priority = 0
      this.#fault(
        `Cannot run before the tasks of containers: ${(error as Error).message}; one with sched_setscheduler can stall the others`,
      )
    }
  }

  /** A thread may end while the list of them is read. */
  #schedule(tid: Tid): void {
    try {
      this.#lanes.schedule(tid)
    } catch (error) {
      if (!(error instanceof SyscallError) || error.errno !== errnos.ESRCH) throw error
    }
  }
}
