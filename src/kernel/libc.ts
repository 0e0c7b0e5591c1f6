import koffi from 'koffi'
import type { Errno } from '../abi/brand.ts'
import { SyscallError } from './error.ts'

/** The C library of the running process: kernel/ declares its foreign functions on it. */
export const libc = koffi.load(null)

/** `errno` of this thread, read in place: a call to ask for it is one more chance for the runtime to change it. */
const errnoWord = new Int32Array(koffi.view(libc.func('void *__errno_location()')(), 4))

/** The error number of the last foreign call of this thread; right only directly after it, never after an `await`. */
export const lastErrno = (): Errno => errnoWord[0] as Errno
// Compiled before the first call fails: see the engine's flags.
lastErrno()

/**
 * The one place where a failed kernel call becomes an exception.
 *
 * @param result what the C function returned; below zero it failed and errno is set
 * @throws {SyscallError}
 */
export function check(syscall: string, result: number): number {
  if (result < 0) throw new SyscallError(syscall, lastErrno())
  return result
}

/** A string of ours (never of a container) as NUL-terminated bytes. */
export const cstring = (text: string): Uint8Array => Buffer.from(`${text}\0`)

/** The address of memory that outlives the call. */
export const address = (bytes: Uint8Array): bigint => koffi.address(bytes)
export const view = (pointer: bigint, length: number): ArrayBuffer => koffi.view(pointer, length)
