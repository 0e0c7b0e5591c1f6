/** Blocks this thread while a word has this value. @returns false if the word still has it after `ms` milliseconds */
export const waitWhile = (words: Int32Array, at: number, value: number, ms = Number.POSITIVE_INFINITY): boolean =>
  Atomics.wait(words, at, value, ms) !== 'timed-out'

/** Wakes threads that wait for a word to change. @param count how many at most */
export const wake = (words: Int32Array, at: number, count = Number.POSITIVE_INFINITY): void =>
  void Atomics.notify(words, at, count)

/** Gives a word a value and wakes all threads that wait for it to change. */
export function setAndWake(words: Int32Array, at: number, value: number): void {
  Atomics.store(words, at, value)
  wake(words, at)
}

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
