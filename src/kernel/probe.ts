import type { Tid } from '../abi/brand.ts'
import { errnos } from '../abi/errno.ts'
import { AT_FDCWD, O_CREAT, O_PATH, O_RDONLY, RESOLVE_CACHED } from '../abi/fcntl.ts'
import {
  BPF_RET,
  encodeAddfd,
  SECCOMP_ADDFD_FLAG_SEND,
  SECCOMP_FILTER_FLAG_NEW_LISTENER,
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
  SECCOMP_GET_ACTION_AVAIL,
  SECCOMP_IOCTL_NOTIF_ADDFD,
  SECCOMP_NOTIF_ADDFD_SIZE,
  SECCOMP_RET_ALLOW,
  SECCOMP_RET_USER_NOTIF,
  SECCOMP_SET_MODE_FILTER,
} from '../abi/seccomp.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { isErrno, orElse, orFalse, SyscallError } from './error.ts'
import { Fd, kcmpFile } from './fd.ts'
import { openat, openat2, uniqueMountId } from './files.ts'
import { address, check, cstring, lastErrno, libc } from './libc.ts'
import { cloneFile, detachedTmpfs, fsconfigSet, fsopen } from './mount.ts'
import { tidFromNamespace } from './pidfd.ts'
import { notifSetFlags } from './seccomp.ts'

const numbers = ownSyscalls(process.arch)

const syscallSeccomp = libc.func('syscall', 'long', ['long', 'uint32_t', 'uint32_t', 'uint8_t *'])
const syscallMountSetattr = libc.func('syscall', 'long', ['long', 'int', 'uint8_t *', 'uint32_t', 'void *', 'size_t'])
const libcIoctl = libc.func('ioctl', 'int', ['int', 'ulong', 'uint8_t *'])

const seccomp = (operation: number, flags: number, argument: Uint8Array | null): number =>
  Number(syscallSeccomp(numbers.seccomp, operation, flags, argument))

/**
 * The kernel checks flags before it reads the filter (kernel/seccomp.c): without a filter a known flag gives EFAULT,
 * any other flag EINVAL.
 *
 * @throws {SyscallError} if a filter on this process, or a kernel without seccomp, answers instead
 */
function knowsFilterFlag(flag: number): boolean {
  if (seccomp(SECCOMP_SET_MODE_FILTER, flag | SECCOMP_FILTER_FLAG_NEW_LISTENER, null) >= 0)
    throw new Error('Cannot ask for a filter flag: seccomp took no filter for one')
  const why = lastErrno()
  if (why !== errnos.EFAULT && why !== errnos.EINVAL) throw new SyscallError('seccomp', why)
  return why === errnos.EFAULT
}

/**
 * Opens a listener of our own, by a filter on this thread that allows everything. The filter stays as long as the
 * thread lives, so this is only for a program that ends soon.
 *
 * @throws {SyscallError} EBUSY under a filter with a listener; EACCES without CAP_SYS_ADMIN
 */
function ownListener(): Fd {
  const filter = new Uint8Array(8)
  const filterView = new DataView(filter.buffer)
  filterView.setUint16(0, BPF_RET, true)
  filterView.setUint32(4, SECCOMP_RET_ALLOW, true)
  const program = new Uint8Array(16)
  const programView = new DataView(program.buffer)
  programView.setUint16(0, 1, true)
  programView.setBigUint64(8, address(filter), true)
  return new Fd(check('seccomp', seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, program)))
}

let listener: Fd | undefined
const theListener = (): Fd => {
  listener ??= ownListener()
  return listener
}

/** No call has the id 0: a kernel that knows the flag gets as far as looking for this call (ENOENT). */
function knowsAddfdFlag(flags: number): boolean {
  const addfd = new Uint8Array(SECCOMP_NOTIF_ADDFD_SIZE)
  encodeAddfd(new DataView(addfd.buffer), { id: 0n, flags, srcfd: theListener().raw, newfd: 0, newfdFlags: 0 })
  return libcIoctl(theListener().raw, SECCOMP_IOCTL_NOTIF_ADDFD, addfd) < 0 && lastErrno() === errnos.ENOENT
}

/**
 * A kernel that knows the flag makes nothing with it, and says so before it looks at the path (EAGAIN); another one
 * knows no such flag (EINVAL). A lookup that succeeds is no answer: it can fail because mounts change meanwhile.
 */
function resolveCached(): boolean {
  try {
    openat2(AT_FDCWD, cstring('/'), O_CREAT, RESOLVE_CACHED)[Symbol.dispose]()
    return true
  } catch (error) {
    return isErrno(error, 'EAGAIN')
  }
}

function pidTranslation(): boolean {
  using namespace = openat(AT_FDCWD, cstring('/proc/self/ns/pid'), O_RDONLY)
  return orElse(false, () => tidFromNamespace(namespace, process.pid) === process.pid)
}

function uniqueMountIds(): boolean {
  using root = openat(AT_FDCWD, cstring('/'), O_PATH)
  return uniqueMountId(root) !== undefined
}

/** Compares a descriptor with itself; without CONFIG_KCMP there is no such call (ENOSYS). */
function fileComparison(): boolean {
  using root = openat(AT_FDCWD, cstring('/'), O_PATH)
  return kcmpFile(process.pid as Tid, root.raw, root)
}

/** A kernel with mount_setattr(2) refuses a struct of no bytes; another kernel refuses the call (ENOSYS). */
const mountSetattr = (): boolean =>
  Number(syscallMountSetattr(numbers.mount_setattr, -1, cstring(''), 0, null, 0)) < 0 && lastErrno() !== errnos.ENOSYS

/** Copies a mount that is attached nowhere, as is done to show a device node inside a container. */
function copyDetached(): boolean {
  using tmpfs = detachedTmpfs([])
  return orFalse(['EINVAL'], () => {
    cloneFile(tmpfs, cstring('.'))[Symbol.dispose]()
    return true
  })
}

/**
 * Asks for something to delegate, and for nonsense: a kernel without BPF tokens ignores any option of bpffs.
 *
 * @throws {SyscallError} EPERM without CAP_SYS_ADMIN
 */
function bpfTokens(): boolean {
  if (!fileSystem('bpf')) return false
  using context = fsopen(cstring('bpf'))
  const takes = (value: string): boolean =>
    orFalse(['EINVAL'], () => {
      fsconfigSet(context, cstring('delegate_cmds'), cstring(value))
      return true
    })
  return takes('prog_load') && !takes('nonsense')
}

/**
 * Opens a context and closes it; the kernel loads the file system's module if there is one.
 *
 * @throws {SyscallError} EPERM without CAP_SYS_ADMIN
 */
function fileSystem(name: string): boolean {
  try {
    fsopen(cstring(name))[Symbol.dispose]()
    return true
  } catch (error) {
    if (isErrno(error, 'EPERM')) throw error
    return false
  }
}

function userNotification(): boolean {
  const action = new Uint8Array(new Uint32Array([SECCOMP_RET_USER_NOTIF]).buffer)
  return seccomp(SECCOMP_GET_ACTION_AVAIL, 0, action) === 0
}

/** Asks the kernel at the first call only. */
function once(ask: () => boolean): () => boolean {
  let known: boolean | undefined
  return () => {
    known ??= ask()
    return known
  }
}

/**
 * Probes for features of the kernel, none of which changes the machine. Each asks once. A probe throws if it cannot
 * find out.
 */
export const kernelFeatures = {
  userNotification: once(userNotification),
  waitKillableRecv: once(() => knowsFilterFlag(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)),
  syncWakeUp: once(() => notifSetFlags(theListener().raw, 0)),
  addfdSend: once(() => knowsAddfdFlag(SECCOMP_ADDFD_FLAG_SEND)),
  pidTranslation: once(pidTranslation),
  resolveCached: once(resolveCached),
  uniqueMountIds: once(uniqueMountIds),
  fileComparison: once(fileComparison),
  mountSetattr: once(mountSetattr),
  copyDetached: once(copyDetached),
  bpfTokens: once(bpfTokens),
  overlay: once(() => fileSystem('overlay')),
} as const satisfies Record<string, () => boolean>

export type KernelFeature = keyof typeof kernelFeatures
