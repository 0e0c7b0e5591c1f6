import type { Tid } from '../../abi/brand.ts'

/** Longer than any name below that is asked for: two numbers and a word. */
const LENGTH = 64
const ZERO = 0x30
const SLASH = 0x2f

/** Names below /proc, written into memory that is made once: each is good until the next one. */
export class ProcNames {
  readonly #bytes = Buffer.alloc(LENGTH)

  /** `TID/name` and a NUL; byte by byte, since to write a string takes as long as the system call that it is for. */
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
