import koffi from 'koffi'
import type { Errno } from '../abi/brand.ts'
import { SyscallError } from './error.ts'

const library = koffi.load(null)
/** `errno` of this thread, in place. */
const errnoWord = new Int32Array(koffi.view(library.func('void *__errno_location()')(), 4))
let errno = 0

/**
 * The C library of the running process: kernel/ declares its foreign functions on it. Each of them notes errno in the same
 * breath: as soon as another function is called, be it one of ours, the runtime may collect or compile, and malloc(3) of that
 * has an errno of its own, also where it succeeds.
 */
export const libc: Pick<typeof library, 'func' | 'symbol'> = {
  func: ((...declaration: Parameters<typeof library.func>) => {
    const call = library.func(...declaration)
    const noted = (...args: unknown[]): unknown => {
      const result = call(...args)
      errno = errnoWord[0]!
      return result
    }
    const async = (...args: unknown[]): void => {
      const done = args.pop() as (...said: unknown[]) => void
      call.async(...args, (...said: unknown[]) => {
        errno = errnoWord[0]!
        done(...said)
      })
    }
    return Object.assign(noted, { async })
  }) as typeof library.func,
  symbol: library.symbol.bind(library),
}

/** The error number of the last foreign call of this thread; right only before another one, and never after an `await`. */
export const lastErrno = (): Errno => errno as Errno

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
