import type { Container } from '../../caller/identity/container.ts'
import type { ThreadIdentity } from '../../caller/identity/thread-identity.ts'
import { containerSysinfo, uptime } from '../../caller/sysinfo/container-sysinfo.ts'
import { bootTime, now } from '../../kernel/clock.ts'
import type { Handle } from '../../kernel/handle.ts'
import { FRESH_MS, type SysinfoCache } from './sysinfo-cache.ts'

/** Knows what sysinfo(2) shall report to the callers of a container. */
export class SysinfoSource {
  readonly #cache: SysinfoCache
  readonly #identity: ThreadIdentity
  readonly #proc: Handle
  /** When our clock was compared with the boot clock, and how far that was ahead. */
  #set = Number.NEGATIVE_INFINITY
  #ahead = 0

  /** @param proc the host's /proc */
  constructor(cache: SysinfoCache, identity: ThreadIdentity, proc: Handle) {
    this.#cache = cache
    this.#identity = identity
    this.#proc = proc
  }

  /** The clock of the process stands still while the machine sleeps, so it is set anew as often as the figures are. */
  #bootTime(time: number): number {
    if (time - this.#set > FRESH_MS) {
      this.#set = time
      this.#ahead = bootTime() - time
    }
    return time + this.#ahead
  }

  /**
   * The struct, in the layout of a caller whose `long` has so many bits. The bytes hold until the next call.
   *
   * @param ahead how far the caller's boot clock is ahead of that of the container's init, in milliseconds
   */
  report(container: Container, bits: 32 | 64, ahead: number): Uint8Array {
    // A container may close the directory of a group that it was given, but not hide its limits by that.
    const look = () => this.#identity.searching(() => containerSysinfo(container, this.#proc))
    const time = now()
    const age = uptime(container.startedMs - ahead, this.#bootTime(time))
    return this.#cache.get(container.index, bits, time, age, look)
  }
}
