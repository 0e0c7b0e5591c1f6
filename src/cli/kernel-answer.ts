import type { RefusalView } from '../memories/refusal-view.ts'

/** What an errno of the kernel usually means for the calls that are served. */
const USUALLY: Readonly<Record<string, string>> = {
  EACCES: 'the caller may not search a directory of the path, or write there',
  EBADF: 'the descriptor is not open, or of another kind',
  EBUSY: 'the device or the place is in use already',
  EEXIST: 'the name is there already',
  EINVAL: 'an option or a flag is wrong, or the device holds no such file system',
  ELOOP: 'the path has too many links',
  ENAMETOOLONG: 'a name of the path is too long',
  ENODEV: 'the kernel has no such file system or device',
  ENOENT: 'a name of the path is not there for the caller',
  ENOMEM: 'the memory of the container, or of the machine, is used up',
  ENOSPC: 'the file system is full, or a limit of the container is reached',
  ENOTBLK: 'the source is no block device: it is a file, which a loop device or mount.fuse can show',
  ENOTDIR: 'a part of the path is no directory',
  ENXIO: 'there is no device of that number',
  EOPNOTSUPP: 'the file system cannot do that',
  EPERM: 'the file system, a security module or a flag such as immutable forbids it to root too',
  EROFS: 'the file system is read-only',
  ESRCH: 'the process is not there',
}

/** Says what an errno means that the kernel itself has given, to a call that was done for the caller. */
export function kernelAnswer({ errno = 'an errno', call }: Pick<RefusalView, 'errno' | 'call'>): string {
  const [name] = /^\w+/.exec(call) ?? ['the call']
  const usually = USUALLY[errno]
  const meaning = usually === undefined ? '' : `, usually since ${usually}`
  return `no key would change it: the kernel itself answered ${errno}${meaning}; "man 2 ${name}" lists what it may mean`
}
