import type { Tid } from '../abi/brand.ts'
import { KCMP_FILE } from '../abi/kcmp.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import type { Handle } from './handle.ts'
import { libc } from './libc.ts'

const syscallKcmp = libc.func('syscall', 'long', ['long', 'int', 'int', 'int', 'ulong', 'ulong'])
const { kcmp } = ownSyscalls(process.arch)

/**
 * Returns whether descriptor `fd` of task `tid` is the same open file description as ours: opened once, and
 * duplicated or passed on since. The same inode alone is not enough.
 *
 * @returns false also if there is no such task or descriptor
 * @see kcmp(2): needs the right to trace the task
 */
export const kcmpFile = (tid: Tid, fd: number, ours: Handle): boolean =>
  Number(syscallKcmp(kcmp, tid, process.pid, KCMP_FILE, fd, ours.raw)) === 0
