import { readSync } from 'node:fs'
import type { Fd } from '../kernel/fd.ts'

/** A memory of the daemon that we can only read: each copy is a pread(2), for which no writer waits. */
export class MemoryFile {
  readonly #fd: Fd
  readonly #word = new Int32Array(1)

  constructor(fd: Fd) {
    this.#fd = fd
  }

  /**
   * Copies `length` bytes from `at`; bytes beyond the end are zero.
   *
   * @param into the target; a new buffer for each of many copies would be much work for the garbage collector
   */
  copy(at: number, length: number, into?: Buffer): DataView {
    const bytes = into ?? Buffer.allocUnsafeSlow(length)
    for (let done = 0; done < length; ) {
      const read = readSync(this.#fd.raw, bytes, done, length - done, at + done)
      if (read === 0) return new DataView(bytes.fill(0, done).buffer, 0, length)
      done += read
    }
    return new DataView(bytes.buffer, 0, length)
  }

  word(at: number): number {
    readSync(this.#fd.raw, this.#word, 0, 4, at)
    return this.#word[0]!
  }

  words(at: number, count: number): Int32Array {
    return new Int32Array(this.copy(at, 4 * count).buffer)
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]()
  }
}
