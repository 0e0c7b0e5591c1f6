import type { Tid } from '../abi/brand.ts'
import { decodeLimit, encodeLimit, limitSize, type ResourceLimit } from '../abi/rlimit.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { check, libc } from './libc.ts'

const syscallPrlimit = libc.func('syscall', 'long', ['long', 'int', 'uint32_t', 'uint8_t *', 'uint8_t *'])
const { prlimit64 } = ownSyscalls(process.arch)
const old = new Uint8Array(limitSize(64))

/**
 * Sets the limits of a task's process on one resource.
 *
 * @returns the limits until then
 * @throws {SyscallError} EPERM for a higher hard limit without CAP_SYS_RESOURCE, or beyond fs.nr_open; ESRCH
 * @see linux/kernel/sys.c check_prlimit_permission(), do_prlimit()
 */
export function setLimit(tid: Tid, resource: number, limit: ResourceLimit): ResourceLimit {
  check('prlimit64', Number(syscallPrlimit(prlimit64, tid, resource, encodeLimit(limit), old)))
  return decodeLimit(old, 64)
}

/** Returns the limits of a task's process. @throws {SyscallError} EPERM, ESRCH */
export function limitOf(tid: Tid, resource: number): ResourceLimit {
  check('prlimit64', Number(syscallPrlimit(prlimit64, tid, resource, null, old)))
  return decodeLimit(old, 64)
}
