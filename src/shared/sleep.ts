/** A word that nobody changes, for which nobody is woken. */
const never = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))

/** Blocks this thread, and no other. */
export const sleepSync = (ms: number): void => void Atomics.wait(never, 0, 0, ms)

/** For a thread that must not run again. */
export function sleepForever(): never {
  for (;;) sleepSync(Number.POSITIVE_INFINITY)
}
