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
   * The struct, in the layout of a caller whose `long` has so many bits. Nothing of the caller itself is looked at: its
   * time namespace shifts the boot clock and the start of init on it alike. The bytes hold until the next call.
   */
  report(container: Container, bits: 32 | 64): Uint8Array {
    // A container may close the directory of a group that it was given, but not hide its limits by that.
    const look = () => this.#identity.searching(() => containerSysinfo(container, this.#proc))
    const time = now()
    return this.#cache.get(container.index, bits, time, uptime(container.startedMs, this.#bootTime(time)), look)
  }
}
