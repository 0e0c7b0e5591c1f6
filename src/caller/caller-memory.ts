import type { PathBytes, Tid } from '../abi/brand.ts'
import { PATH_MAX } from '../abi/limits.ts'
import type { MemoryReader } from '../calls/caller.ts'
import { RecordTexts } from '../calls/record-texts.ts'
import { ContinueError } from '../calls/verdict.ts'
import { copyFrom, type RemoteMemory } from '../kernel/vm-readv.ts'
import { copyPath } from './paths/path-bytes.ts'
import { asContinue, orContinue } from './task/caller-task.ts'
import { readOptions, readString } from './task/remote-strings.ts'

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

  bytes(at: bigint, length: number): Uint8Array {
    if (length > BYTES_MAX) throw new ContinueError('unreadable')
    const bytes = this.#copy(at, length)
    this.texts.noteBytes(at, bytes)
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
