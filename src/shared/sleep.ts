/** A word that no thread changes or wakes for. */
const never = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))

/** Blocks only this thread. */
export const sleepSync = (ms: number): void => void Atomics.wait(never, 0, 0, ms)

/** For a thread that must not run again. */
export function sleepForever(): never {
  for (;;) sleepSync(Number.POSITIVE_INFINITY)
}
