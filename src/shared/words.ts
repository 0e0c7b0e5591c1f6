/**
 * Blocks this thread while a word has this value. A wake-up may be meant for a thread that waited here before: then
 * this thread waits again, for as long.
 *
 * @returns false if the word still has the value after `ms` milliseconds
 */
export function waitWhile(words: Int32Array, at: number, value: number, ms = Number.POSITIVE_INFINITY): boolean {
  do if (Atomics.wait(words, at, value, ms) === 'timed-out') return false
  while (Atomics.load(words, at) === value)
  return true
}

/** Wakes threads that wait for a word to change. @param count how many at most */
export const wake = (words: Int32Array, at: number, count = Number.POSITIVE_INFINITY): void =>
  void Atomics.notify(words, at, count)

/** Gives a word a value and wakes all threads that wait for it to change. */
export function setAndWake(words: Int32Array, at: number, value: number): void {
  Atomics.store(words, at, value)
  wake(words, at)
}

/** Counts more. What is refused is not counted: the word would begin again. @returns false beyond the limit */
export const countUpTo = (limit: number, words: Int32Array, at: number, more: number): boolean =>
  Atomics.load(words, at) + more <= limit && Atomics.add(words, at, more) + more <= limit

/** Reads a 64-bit number from two words. Precondition: no thread writes them meanwhile. */
export const load64 = (words: Int32Array, at: number): bigint =>
  (BigInt(words[at + 1]! >>> 0) << 32n) | BigInt(words[at]! >>> 0)

/** Precondition: no other thread reads or writes the two words meanwhile. */
export function store64(words: Int32Array, at: number, value: bigint): void {
  words[at] = low32(value)
  words[at + 1] = low32(value >> 32n)
}

/** The lower half of a 64-bit number, as a signed word. */
export const low32 = (value: bigint): number => Number(BigInt.asIntN(32, value))

/** A word that no thread changes or wakes for. */
const never = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))

/** Blocks only this thread. */
export const sleepSync = (ms: number): void => void Atomics.wait(never, 0, 0, ms)

/** For a thread that must not run again. */
export function sleepForever(): never {
  for (;;) sleepSync(Number.POSITIVE_INFINITY)
}

/** How many 32-bit words each member takes, in their order in memory. */
type Sizes = Readonly<Record<string, number>>

/** In words: data that one thread writes all the time must not share a cache line with data that others read. */
export const CACHE_LINE = 16

/**
 * Lays out the members of a struct one after the other. The offsets are computed once, as a module is loaded: V8 folds
 * them into the code of a call as it folds numbers.
 *
 * @returns the offset of each member in 32-bit words, and the total number of words
 */
export function struct<S extends Sizes>(
  sizes: S,
): readonly [at: { readonly [Member in keyof S]: number }, words: number] {
  let words = 0
  const at: Record<string, number> = {}
  for (const [member, size] of Object.entries(sizes)) {
    at[member] = words
    words += size
  }
  return [Object.freeze(at) as { readonly [Member in keyof S]: number }, words]
}

const OPEN = 0

/**
 * An answer that one thread gives another, once: a number other than 0, in memory that is sent with the question.
 *
 *   open -> answered      OneShot.set()
 *
 * Invariant: one thread sets it, once; any thread may wait for it.
 */
export class OneShot {
  readonly #words: Int32Array<SharedArrayBuffer>

  /**
   * @param buffer the memory of the asking thread, which makes it
   */
  constructor(buffer = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)) {
    this.#words = new Int32Array(buffer)
  }

  get buffer(): SharedArrayBuffer {
    return this.#words.buffer
  }

  /**
   * @throws {RangeError} for 0, which would look like no answer
   */
  set(answer: number): void {
    if ((answer | 0) === OPEN) throw new RangeError(`Cannot answer a thread: ${answer} is no answer`)
    setAndWake(this.#words, 0, answer)
  }

  /** Blocks until there is an answer. @returns undefined if there is none after `ms` milliseconds */
  wait(ms?: number): number | undefined {
    return waitWhile(this.#words, 0, OPEN, ms) ? Atomics.load(this.#words, 0) : undefined
  }
}
