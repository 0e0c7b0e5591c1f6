import type { Tid } from '../../abi/brand.ts'
import { errno } from '../../abi/errno.ts'
import { PAGE } from '../../abi/limits.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { RemoteMemory } from '../../kernel/vm-readv.ts'

/**
 * Copies a NUL-terminated string from a task's memory as Latin-1, which preserves its bytes.
 *
 * @param limit the maximum size in bytes, with the NUL; a page at most
 * @throws {SyscallError} EFAULT
 * @throws {RangeError} if the string is longer
 */
export function readString(memory: RemoteMemory, tid: Tid, at: bigint, limit = PAGE): string {
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
export function readOptions(memory: RemoteMemory, tid: Tid, at: bigint): string {
  const length = Math.min(memory.read(tid, at, PAGE), PAGE - 1)
  const bytes = Buffer.from(memory.bytes.subarray(0, length))
  const end = bytes.indexOf(0)
  return bytes.toString('latin1', 0, end < 0 ? length : end)
}
