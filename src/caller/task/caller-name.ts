import { COMM_SIZE } from '../../calls/record.ts'

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
