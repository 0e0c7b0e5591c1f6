import { readdirSync } from 'node:fs'
import type { Tid } from '../../abi/brand.ts'
import { RT_PRIORITY_MAX, SCHED, type SchedAttr } from '../../abi/sched.ts'
import { ignoring } from '../../kernel/error.ts'
import { currentTid } from '../../kernel/process.ts'
import { schedulingOf } from '../../kernel/sched.ts'
import type { Lanes } from '../thread/lane.ts'

/** Returns whether a task scheduled like this runs before all tasks whose real-time priority is below `wanted`. */
const outranks = ({ policy, priority }: SchedAttr, wanted: number): boolean =>
  policy === SCHED.DEADLINE || priority >= wanted

/**
 * Keeps the engine above the real-time priorities that its containers may give to tasks: two tasks that spin at 99
 * stalled every other container for 385 ms. The priority is raised only while there is such a container, and no
 * higher than needed, since the engine then runs before the host's own tasks of a lower priority.
 *
 * It applies to all threads of the process, including those of V8 and libuv, for which the garbage collection of an
 * engine thread waits. An engine thread in the slow lane is left out: its call may take long, and the call's container
 * may have no right to give a priority.
 */
export class RtPriority {
  /** Maps containers to the highest priority that each may give. */
  readonly #given = new Map<number, number>()
  readonly #fault: (message: string) => void
  readonly #lanes: Lanes
  /** The scheduling with which the process was started: an administrator may have given it a priority. */
  readonly #usual = schedulingOf(currentTid())

  constructor(lanes: Lanes, fault: (message: string) => void) {
    this.#fault = fault
    this.#lanes = lanes
    lanes.start(this.#usual)
  }

  /** Adds a container. @param highest the highest priority that it may give; undefined for none */
  admit(container: number, highest: number | undefined): void {
    if (highest !== undefined) this.#given.set(container, highest)
    this.#settle()
  }

  /**
   * Notes the highest priority that a container may give now. It never lowers: the container's tasks keep what they
   * have.
   */
  raise(container: number, highest = 0): void {
    if (highest <= (this.#given.get(container) ?? 0)) return
    this.#given.set(container, highest)
    this.#settle()
  }

  /** @param heir another container of the same user namespace, whose tasks this one may have given a priority */
  forget(container: number, heir?: number): void {
    if (heir !== undefined) this.raise(heir, this.#given.get(container))
    if (this.#given.delete(container)) this.#settle()
  }

  /** Applies the priority to threads that were started since the last change. */
  renew(): void {
    if (this.#lanes.priority > 0) this.#apply()
  }

  #settle(): void {
    const above = this.#given.size > 0 ? 1 + Math.max(...this.#given.values()) : 0
    // Beside a SCHED_FIFO task of the same priority the engine would never run again, and could not even be killed. As
    // an ordinary process it has the share that the kernel keeps for those.
    const needed = above <= RT_PRIORITY_MAX ? above : 0
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

  /** Schedules a thread, unless it has ended since the list of threads was read. */
  #schedule(tid: Tid): void {
    ignoring(['ESRCH'], () => this.#lanes.schedule(tid))
  }
}
