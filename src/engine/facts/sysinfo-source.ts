import type { Container } from '../../caller/identity/container.ts'
import type { ThreadIdentity } from '../../caller/identity/thread-identity.ts'
import { containerSysinfo, uptime } from '../../caller/sysinfo/container-sysinfo.ts'
import type { CallerTask } from '../../caller/task/caller-task.ts'
import { bootTime, now } from '../../kernel/clock.ts'
import type { Handle } from '../../kernel/handle.ts'
import { FRESH_MS, type SysinfoCache } from './sysinfo-cache.ts'

/**
 * How long we assume, in milliseconds, that a caller is still in the time namespace in which it was seen. A program
 * that asks all the time must not cost a look at each call. A task that joins another namespace meanwhile, or that has
 * got the number of the previous caller, is told the uptime of its container in that namespace: a clock of the same
 * container.
 */
const SAME_CLOCK_MS = 1

/** What we need to know about a caller. */
type Clock = Pick<CallerTask, 'tid' | 'bootClockAhead'>

/** Finds out what sysinfo(2) reports to the callers of a container. */
export class SysinfoSource {
  readonly #cache: SysinfoCache
  readonly #identity: ThreadIdentity
  readonly #proc: Handle
  /** When our clock was compared with the boot clock, and how far the boot clock was ahead. */
  #set = Number.NEGATIVE_INFINITY
  #ahead = 0
  /**
   * The caller that was last looked at, when, and how far its boot clock was ahead of the one of the container's init.
   */
  readonly #last = { serial: 0, tid: 0, time: Number.NEGATIVE_INFINITY, ahead: 0 }

  /** @param proc the host's /proc */
  constructor(cache: SysinfoCache, identity: ThreadIdentity, proc: Handle) {
    this.#cache = cache
    this.#identity = identity
    this.#proc = proc
  }

  /**
   * The process's clock stands still while the machine sleeps, so it is compared again as often as the figures are
   * read.
   */
  #bootTime(time: number): number {
    if (time - this.#set > FRESH_MS) {
      this.#set = time
      this.#ahead = bootTime() - time
    }
    return time + this.#ahead
  }

  /**
   * Returns the struct in the layout of a caller whose `long` has this many bits. The bytes are valid until the next
   * call.
   */
  report(container: Container, bits: 32 | 64, caller: Clock): Uint8Array {
    // A container may close the directory of a group that it was given, but that must not hide its limits.
    const look = () => this.#identity.searching(() => containerSysinfo(container, this.#proc))
    const time = now()
    const age = uptime(container.startedMs - this.#aheadOf(container, caller, time), this.#bootTime(time))
    return this.#cache.get(container.index, bits, time, age, look)
  }

  /** Returns how far the caller's boot clock is ahead of that of the container's init, in milliseconds. */
  #aheadOf({ serial, time: clock }: Container, caller: Clock, time: number): number {
    if (!clock) return 0
    const last = this.#last
    if (last.tid === caller.tid && last.serial === serial && time - last.time < SAME_CLOCK_MS) return last.ahead
    last.ahead = caller.bootClockAhead(clock)
    last.serial = serial
    last.tid = caller.tid
    last.time = time
    return last.ahead
  }
}
