import { encodeSysinfo32, encodeSysinfo64, SYSINFO_SIZE, type SystemInfo, UPTIME } from '../../abi/system.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { ThreadIdentity } from '../../caller/identity/thread-identity.ts'
import { containerSysinfo, uptime } from '../../caller/sysinfo/container-sysinfo.ts'
import type { CallerTask } from '../../caller/task/caller-task.ts'
import { bootTime, now } from '../../kernel/clock.ts'
import type { Handle } from '../../kernel/fd.ts'
import { struct } from '../../shared/words.ts'

/** How long figures are valid: a program that asks all the time must not make us read the files all the time. */
const FRESH_MS = 100
const BODY = (SYSINFO_SIZE[64] + SYSINFO_SIZE[32]) / 4
/**
 * sequence: odd while the figures are being written. taken: the millisecond at which a thread went to look for new
 * figures, 0 if none did. known: 1 if there are figures.
 */
const [WORD, WORDS] = struct({ sequence: 1, taken: 1, known: 1, body: BODY })
export const INFO_WORDS = WORDS

/**
 * What sysinfo(2) reports of containers, in memory that the threads share, already in the form in which callers get it:
 * the struct of 64-bit callers, then that of 32-bit callers. Only the uptime is not part of it.
 *
 * Invariant: any thread may call everything. The figures of a container are guarded by a sequence lock: a thread writes
 * them only while it has made `sequence` odd, and a thread that reads them uses only a copy before and after which
 * `sequence` was the same even number. No thread waits: one that cannot write, or has read no whole copy, continues
 * with its own figures.
 */
export class SysinfoCache {
  readonly #words: Int32Array
  /** This thread's copy of one container's figures, and their sequence. It is still right at most calls. */
  readonly #body = new Int32Array(BODY)
  #copied = -1
  #sequence = 0
  readonly #view64 = new DataView(this.#body.buffer, 0, SYSINFO_SIZE[64])
  readonly #view32 = new DataView(this.#body.buffer, SYSINFO_SIZE[64])
  readonly #bytes = { 64: bytesOf(this.#view64), 32: bytesOf(this.#view32) }

  /** @param words INFO_WORDS for each container */
  constructor(words: Int32Array) {
    this.#words = words
  }

  /**
   * Returns the struct for one caller; it is valid until the next call.
   *
   * @param now milliseconds of a clock that all threads read alike
   * @param uptime seconds
   * @param find looks at the container: not before 100 ms have passed since the last look of any thread
   */
  get(container: number, bits: 32 | 64, now: number, uptime: number, find: () => SystemInfo): Uint8Array {
    const at = container * INFO_WORDS
    if (this.#isDue(at, now | 0) || !this.#load(at)) this.#fill(at, find())
    const view = bits === 64 ? this.#view64 : this.#view32
    view.setUint32(UPTIME, uptime, true)
    return this.#bytes[bits]
  }

  /**
   * Another container has this number now. The sequence continues, so that no thread takes its old copy for a new one.
   */
  forget(container: number): void {
    Atomics.store(this.#words, container * INFO_WORDS + WORD.known, 0)
    Atomics.store(this.#words, container * INFO_WORDS + WORD.taken, 0)
  }

  /** One thread looks; until it is back, the other threads give the previous figures. */
  #isDue(at: number, now: number): boolean {
    const taken = Atomics.load(this.#words, at + WORD.taken)
    // The clock has 32 bits here and wraps every 50 days.
    if (taken !== 0 && (now - taken) >>> 0 < FRESH_MS) return false
    return Atomics.compareExchange(this.#words, at + WORD.taken, taken, now) === taken
  }

  /** @returns false if there are no whole figures */
  #load(at: number): boolean {
    const sequence = this.#word(at + WORD.sequence)
    if (this.#word(at + WORD.known) === 0 || (sequence & 1) !== 0) return false
    if (this.#copied === at && this.#sequence === sequence) return true
    this.#copied = -1
    for (let word = 0; word < BODY; word++) this.#body[word] = this.#word(at + WORD.body + word)
    if (this.#word(at + WORD.sequence) !== sequence) return false
    this.#copied = at
    this.#sequence = sequence
    return true
  }

  #fill(at: number, info: SystemInfo): void {
    this.#copied = -1
    encodeSysinfo64(this.#view64, info)
    encodeSysinfo32(this.#view32, info)
    this.#store(at)
  }

  /** Does nothing if another thread is doing it now. */
  #store(at: number): void {
    const sequence = this.#word(at + WORD.sequence)
    if ((sequence & 1) !== 0) return
    if (Atomics.compareExchange(this.#words, at + WORD.sequence, sequence, sequence + 1) !== sequence) return
    for (let word = 0; word < BODY; word++) Atomics.store(this.#words, at + WORD.body + word, this.#body[word]!)
    Atomics.store(this.#words, at + WORD.known, 1)
    Atomics.store(this.#words, at + WORD.sequence, sequence + 2)
  }

  #word(index: number): number {
    return Atomics.load(this.#words, index)
  }
}

const bytesOf = (view: DataView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength)

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
      // Not `time`: what was looked at since then took a while.
      this.#ahead = bootTime() - now()
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
