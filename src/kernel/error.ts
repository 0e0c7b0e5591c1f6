import type { Errno } from '../abi/brand.ts'
import { errnoName } from '../abi/errno.ts'

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
