import { O_RDONLY } from '../abi/fcntl.ts'
import { openat, read } from './files.ts'
import type { Handle } from './handle.ts'
import { cstring } from './libc.ts'

const fdinfo = Buffer.alloc(4096)

/**
 * Returns the mount id of one of our descriptors, as in mountinfo; the kernel reuses these ids. It comes from fdinfo,
 * since statx(2) would ask the file system: FUSE refuses processes outside its user namespace.
 *
 * @param proc the host's procfs
 * @see proc_pid_fdinfo(5)
 */
export function mountNumber(proc: Handle, fd: Handle): number {
  using file = openat(proc.raw, cstring(`self/fdinfo/${fd.raw}`), O_RDONLY)
  const [, number] = /^mnt_id:\s*(\d+)$/m.exec(fdinfo.toString('latin1', 0, read(file, fdinfo))) ?? []
  return Number(number)
}
