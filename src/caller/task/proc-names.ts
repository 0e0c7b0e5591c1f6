import type { Tid } from '../../abi/brand.ts'

/** Buffer size in bytes: longer than any name that is built here, which is two numbers and a word. */
const LENGTH = 64
const ZERO = 0x30
const SLASH = 0x2f

/** Builds names below /proc in one reused buffer: each name is valid until the next is built. */
export class ProcNames {
  readonly #bytes = Buffer.alloc(LENGTH)

  /**
   * Returns `TID/name` and a NUL. It is written byte by byte, since Buffer.write() takes as long as the system call
   * itself.
   */
  of(tid: Tid, name: string): Uint8Array {
    const bytes = this.#bytes
    let at = digitsOf(tid)
    for (let rest: number = tid, digit = at - 1; digit >= 0; digit--) {
      bytes[digit] = ZERO + (rest % 10)
      rest = Math.trunc(rest / 10)
    }
    bytes[at++] = SLASH
    for (let index = 0; index < name.length; index++) bytes[at++] = name.charCodeAt(index)
    bytes[at] = 0
    return bytes
  }
}

function digitsOf(number: number): number {
  let digits = 1
  for (let bound = 10; number >= bound; bound *= 10) digits++
  return digits
}
