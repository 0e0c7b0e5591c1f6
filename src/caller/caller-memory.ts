import type { PathBytes, Tid } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { PAGE, PATH_MAX } from '../abi/system.ts'
import type { MemoryReader } from '../calls/caller.ts'
import { RecordTexts } from '../calls/record.ts'
import { ContinueError } from '../calls/verdict.ts'
import { SyscallError } from '../kernel/error.ts'
import { copyFrom, type RemoteMemory } from '../kernel/remote-memory.ts'
import { copyPath } from './paths/lookup-types.ts'
import { asContinue, orContinue } from './task/caller-task.ts'

/**
 * Copies a NUL-terminated string from a task's memory as Latin-1, which preserves its bytes.
 *
 * @param limit the maximum size in bytes, with the NUL; a page at most
 * @throws {SyscallError} EFAULT
 * @throws {RangeError} if the string is longer
 */
function readString(memory: RemoteMemory, tid: Tid, at: bigint, limit = PAGE): string {
  const length = memory.readString(tid, at, PAGE)
  const end = memory.bytes.subarray(0, length).indexOf(0)
  if (end >= limit || (end < 0 && length >= limit)) throw new RangeError('Cannot copy the string: it is too long')
  if (end < 0) throw new SyscallError('process_vm_readv', errno('EFAULT'))
  return Buffer.from(memory.bytes.subarray(0, end)).toString('latin1')
}

/**
 * Copies the data argument of mount(2) as Latin-1: as much of a page as is readable, up to the first NUL.
 *
 * @see linux/fs/namespace.c copy_mount_options()
 */
function readOptions(memory: RemoteMemory, tid: Tid, at: bigint): string {
  const length = Math.min(memory.read(tid, at, PAGE), PAGE - 1)
  const bytes = Buffer.from(memory.bytes.subarray(0, length))
  const end = bytes.indexOf(0)
  return bytes.toString('latin1', 0, end < 0 ? length : end)
}

const BYTES_MAX = 65536

/**
 * Copies out of the memory of the thread that made a call. The bytes are the caller's if its call still waits
 * afterwards, so nothing is done for a caller before that is asked.
 *
 * Invariant: each thread has one such object, and moves it from call to call.
 */
export class CallerMemory implements MemoryReader {
  readonly #memory: RemoteMemory
  /** The buffer of the path of the call. */
  readonly #path: Uint8Array
  /** Takes the texts that are copied. */
  readonly texts = new RecordTexts()
  #tid = 0 as Tid

  constructor(memory: RemoteMemory, path: Uint8Array) {
    this.#memory = memory
    this.#path = path
  }

  moveTo(tid: Tid): void {
    this.#tid = tid
  }

  bytes(at: bigint, length: number, isText = false): Uint8Array {
    if (length > BYTES_MAX) throw new ContinueError('unreadable')
    const bytes = this.#copy(at, length)
    if (isText) this.texts.noteBytes(at, bytes)
    return bytes
  }

  #copy(at: bigint, length: number): Uint8Array {
    try {
      return copyFrom(this.#memory, this.#tid, at, length)
    } catch (error) {
      throw asContinue('unreadable', error)
    }
  }

  /** Reads bytes, so that their pages are there. @throws {SyscallError} EFAULT */
  fetch(at: bigint, length: number): void {
    copyFrom(this.#memory, this.#tid, at, length)
  }

  path(at: bigint): PathBytes {
    const { bytes } = this.#memory
    const length = this.#read(at)
    const end = bytes.indexOf(0)
    if (end < 0 || end >= length) throw new ContinueError('unreadable')
    if (end === 0) throw new ContinueError('pathNotResolved')
    this.texts.note(at, bytes.subarray(0, end))
    return copyPath(bytes, end + 1, this.#path)
  }

  #read(at: bigint): number {
    try {
      return this.#memory.readString(this.#tid, at, PATH_MAX)
    } catch (error) {
      throw asContinue('unreadable', error)
    }
  }

  string(at: bigint, limit?: number): string | undefined {
    if (at === 0n) return undefined
    const text = orContinue('unreadable', () => readString(this.#memory, this.#tid, at, limit))
    this.texts.note(at, text)
    return text
  }

  options(at: bigint): string | undefined {
    if (at === 0n) return undefined
    return orContinue('unreadable', () => readOptions(this.#memory, this.#tid, at))
  }
}
