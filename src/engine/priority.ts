import { readdirSync } from 'node:fs'
import type { Tid } from '../abi/brand.ts'
import { errnos } from '../abi/errno.ts'
import { SCHED, SCHED_RESET_ON_FORK, type SchedAttr } from '../abi/sched.ts'
import { SyscallError } from '../kernel/error.ts'
import { currentTid } from '../kernel/process.ts'
import { schedSetscheduler, schedulingOf } from '../kernel/sched.ts'

const HIGHEST = 99
/** Is a task with this before all tasks below that real-time priority already? */
const outranks = ({ policy, priority }: SchedAttr, wanted: number): boolean =>
  policy === SCHED.DEADLINE || priority >= wanted

/**
 * Keeps the engine above the real-time priorities that its containers may give: two tasks that spin at 99 stalled every
 * other container for 385 ms. Only as long as there is such a container, and no higher than needed, since the engine then
 * runs before the host's own tasks of a lower priority.
 *
 * All threads of the process, also those of V8 and libuv: the collector of an engine thread waits for them. What the process
 * starts is scheduled as usual.
 */
export class Priority {
  /** By container: the highest priority that it may give. */
  readonly #given = new Map<number, number>()
  readonly #fault: (message: string) => void
  /** How the process was started: an administrator may have given it a priority. */
  readonly #usual = schedulingOf(currentTid())
  #raised = 0

  constructor(fault: (message: string) => void) {
    this.#fault = fault
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
    if (this.#raised > 0) this.#apply(SCHED.RR | SCHED_RESET_ON_FORK, this.#raised)
  }

  #settle(): void {
    const needed = this.#given.size > 0 ? Math.min(HIGHEST, 1 + Math.max(...this.#given.values())) : 0
    const wanted = outranks(this.#usual, needed) ? 0 : needed
    if (wanted === this.#raised) return
    this.#raised = wanted
    if (wanted > 0) this.renew()
    else this.#apply(this.#usual.policy, this.#usual.priority)
  }

  #apply(policy: number, priority: number): void {
    try {
      for (const tid of readdirSync('/proc/self/task')) setOne(Number(tid) as Tid, policy, priority)
    } catch (error) {
      this.#fault(
        `Cannot run before the tasks of containers: ${(error as Error).message}; one with sched_setscheduler can stall the others`,
      )
    }
  }
}

/** A thread may end while the list of them is read. */
function setOne(tid: Tid, policy: number, priority: number): void {
  try {
    schedSetscheduler(tid, policy, priority)
  } catch (error) {
    if (!(error instanceof SyscallError) || error.errno !== errnos.ESRCH) throw error
  }
}
