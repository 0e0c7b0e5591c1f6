import koffi from 'koffi'
import type { Errno } from '../abi/brand.ts'
import { SyscallError } from './error.ts'

const library = koffi.load(null)
/** The memory of this thread's `errno`. */
const errnoWord = new Int32Array(koffi.view(library.func('void *__errno_location()')(), 4))
let errno = 0

/**
 * The C library of this process, on which kernel/ declares its foreign functions. Each function saves errno right after
 * the call: before any other function returns, even one of ours, V8 may collect or compile, and its malloc(3) may set
 * errno even if it succeeds.
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

/** Returns the errno of this thread's last foreign call; wrong after another foreign call or an `await`. */
export const lastErrno = (): Errno => errno as Errno

/**
 * Turns a failed kernel call into an exception.
 *
 * @param result the return value of the C function; a negative value means failure, with errno set
 * @throws {SyscallError}
 */
export function check(syscall: string, result: number): number {
  if (result < 0) throw new SyscallError(syscall, lastErrno())
  return result
}

/** Returns a string of ours (never of a container) as NUL-terminated bytes. */
export const cstring = (text: string): Uint8Array => Buffer.from(`${text}\0`)

/** Returns the address of memory, which must outlive the call that uses it. */
export const address = (bytes: Uint8Array): bigint => koffi.address(bytes)
export const view = (pointer: bigint, length: number): ArrayBuffer => koffi.view(pointer, length)
