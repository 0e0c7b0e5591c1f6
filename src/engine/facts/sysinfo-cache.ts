import { encodeSysinfo32, encodeSysinfo64, SYSINFO_SIZE, type SystemInfo, UPTIME } from '../../abi/sysinfo.ts'

/** For so long what was found holds: a program that asks all the time must not make us read the files all the time. */
export const FRESH_MS = 100
/** Odd while the figures are being written. */
const SEQUENCE = 0
/** When somebody went to look for new ones. */
const TAKEN = 1
/** Are there any? */
const KNOWN = 2
const HEAD = 3
const BODY = (SYSINFO_SIZE[64] + SYSINFO_SIZE[32]) / 4
export const INFO_WORDS = HEAD + BODY

/**
 * What sysinfo(2) reports of containers, in memory that the threads share, already in the form in which callers get it: the
 * struct of 64-bit callers, then that of 32-bit ones. Only the uptime is not part of it.
 */
export class SysinfoCache {
  readonly #words: Int32Array
  /** This thread's copy of the figures of one container, and their sequence: most calls find that they are still right. */
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
   * The struct for one caller; it holds until the next call.
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

  /** Another container has this number now. The sequence goes on: no thread takes its copy for a new one. */
  forget(container: number): void {
    Atomics.store(this.#words, container * INFO_WORDS + KNOWN, 0)
    Atomics.store(this.#words, container * INFO_WORDS + TAKEN, 0)
  }

  /** One thread goes to look; until it is back, the others give what was found before. */
  #isDue(at: number, now: number): boolean {
    const taken = Atomics.load(this.#words, at + TAKEN)
    // The clock has 32 bits here and comes round every 50 days.
    if (taken !== 0 && (now - taken) >>> 0 < FRESH_MS) return false
    return Atomics.compareExchange(this.#words, at + TAKEN, taken, now) === taken
  }

  /** @returns false if there is nothing whole */
  #load(at: number): boolean {
    const sequence = this.#word(at + SEQUENCE)
    if (this.#word(at + KNOWN) === 0 || (sequence & 1) !== 0) return false
    if (this.#copied === at && this.#sequence === sequence) return true
    this.#copied = -1
    for (let word = 0; word < BODY; word++) this.#body[word] = this.#word(at + HEAD + word)
    if (this.#word(at + SEQUENCE) !== sequence) return false
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

  /** Not if another thread is just doing it. */
  #store(at: number): void {
    const sequence = this.#word(at + SEQUENCE)
    if ((sequence & 1) !== 0) return
    if (Atomics.compareExchange(this.#words, at + SEQUENCE, sequence, sequence + 1) !== sequence) return
    for (let word = 0; word < BODY; word++) Atomics.store(this.#words, at + HEAD + word, this.#body[word]!)
    Atomics.store(this.#words, at + KNOWN, 1)
    Atomics.store(this.#words, at + SEQUENCE, sequence + 2)
  }

  #word(index: number): number {
    return Atomics.load(this.#words, index)
  }
}

const bytesOf = (view: DataView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
