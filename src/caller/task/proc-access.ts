import type { Tid } from '../../abi/brand.ts'
import { COMM_SIZE } from '../../calls/record.ts'
import type { Handle } from '../../kernel/fd.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'

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

const NAME = Buffer.from('Name:\t')
const LINE = 0x0a
const BACKSLASH = 0x5c
const N = 0x6e

/** Who makes the call that a thread serves: the name of the calling thread, and its number in the container. */
export class CallerName {
  /** As the kernel has it: all bytes but 0 may be in it. */
  readonly comm = new Uint8Array(COMM_SIZE)
  length = 0
  /** 0 if it is not known. */
  pid = 0
  isKnown = false

  /** Takes the name from `/proc/TID/status`, of which a call that is looked at has a copy. */
  takeStatus(status: Uint8Array, length: number): void {
    for (let at = 0; at < NAME.length; at++) if (status[at] !== NAME[at]) return
    this.#begin()
    for (let at = NAME.length; at < length && status[at] !== LINE; at++) {
      // The kernel escapes these two bytes and no others, linux/fs/proc/array.c proc_task_name().
      const isEscape = status[at] === BACKSLASH
      if (isEscape) at++
      this.#add(isEscape && status[at] === N ? LINE : status[at]!)
    }
  }

  /** Takes the name from `/proc/TID/comm`, which ends with a line feed that is not part of it. */
  takeComm(comm: Uint8Array, length: number): void {
    this.#begin()
    for (let at = 0; at < length - 1; at++) this.#add(comm[at]!)
  }

  end(): void {
    this.isKnown = false
    this.pid = 0
    this.length = 0
  }

  #begin(): void {
    this.end()
    this.isKnown = true
  }

  #add(byte: number): void {
    if (this.length < COMM_SIZE - 1) this.comm[this.length++] = byte
  }
}

/** What a thread needs to inspect tasks in procfs; it is made once per thread. */
export interface ProcAccess {
  readonly identity: ThreadIdentity
  /** The host's /proc. */
  readonly proc: Handle
  readonly names: ProcNames
  /** The buffer into which status files are read. */
  readonly status: Buffer
  /** Who makes the call that the thread serves. */
  readonly callerName: CallerName
}
