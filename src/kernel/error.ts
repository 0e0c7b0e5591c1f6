import type { Errno } from '../abi/brand.ts'
import { type ErrnoName, errnoName, errnos } from '../abi/errno.ts'

/** A failed kernel call: thrown by `check` of kernel/, and turned into the container's errno by the engine's answer. */
export class SyscallError extends Error {
  override readonly name = 'SyscallError'
  readonly syscall: string
  readonly errno: Errno

  constructor(syscall: string, errno: Errno) {
    super(`${syscall}: ${errnoName(errno)}`)
    this.syscall = syscall
    this.errno = errno
  }
}

/** Returns whether an error is a failed kernel call with one of these error numbers. */
export const isErrno = (error: unknown, ...names: readonly ErrnoName[]): error is SyscallError =>
  error instanceof SyscallError && names.some((name) => errnos[name] === error.errno)

/** The errors of a kernel call that the caller expects; every other error is thrown on. */
type Expected = 'any' | readonly ErrnoName[]

/** Returns what `look` returns; undefined if a kernel call in it fails as expected. */
export function orUndefined<T>(expected: Expected, look: () => T): T | undefined {
  try {
    return look()
  } catch (error) {
    if (expected === 'any' ? error instanceof SyscallError : isErrno(error, ...expected)) return undefined
    throw error
  }
}

/** Returns what `look` returns, or something else if it fails in any way: what it looks at may be gone. */
export function orElse<T, U>(otherwise: U, look: () => T): T | U {
  try {
    return look()
  } catch {
    return otherwise
  }
}

/** Returns what `look` returns; false if a kernel call in it fails as expected. */
export const orFalse = (expected: Expected, look: () => boolean): boolean => orUndefined(expected, look) ?? false

/** Runs `action` and ignores the expected failures of a kernel call in it. */
export const ignoring = (expected: Expected, action: () => void): void => orUndefined(expected, action)
