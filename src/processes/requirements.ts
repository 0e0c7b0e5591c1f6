import { existsSync, statSync } from 'node:fs'
import { PROC_USER_INIT_INO } from '../abi/process.ts'
import { SECCOMP_NOTIF_RESP_SIZE, SECCOMP_NOTIF_SIZE } from '../abi/seccomp.ts'
import { SyscallError } from '../kernel/error.ts'
import { notifSizes } from '../kernel/seccomp.ts'

/** Checks that procfs, from which all else is known, is where it should be. @throws {Error} if it is not */
export function requireProcfs(): void {
  if (!existsSync('/proc/self/ns/user'))
    throw new Error('Cannot start: no procfs is mounted on /proc; mount it first: mount -t proc proc /proc')
}

/**
 * Checks that we are in the right user namespace, on which the kernel's permissions depend.
 *
 * @param forUser whether we serve the containers of a user: then it must not be the host's namespace, else it must be
 * @throws {Error} if it is the wrong one
 */
export function requireUserNamespace(forUser: boolean, inode = statSync('/proc/self/ns/user').ino): void {
  const isHosts = inode === PROC_USER_INIT_INO
  if (forUser && isHosts)
    throw new Error(
      'Cannot serve a user: this user namespace is the one of the host; run it in that of the containers: podman unshare intercede serve --user',
    )
  if (!forUser && !isHosts)
    throw new Error(
      'Cannot serve: this user namespace is not the one of the host, so the kernel refuses nearly everything; use --user to serve sysinfo and mount.fuse',
    )
}

/**
 * Checks, before anything else is tried, that we are root and that the kernel has seccomp user notification.
 *
 * @param sizes asks the kernel; tests pass another function
 * @throws {Error} that says what is missing and what to do
 */
export function requireKernel(sizes: () => readonly number[] = notifSizes, uid = process.getuid?.()): void {
  if (uid !== 0)
    throw new Error(
      'Cannot intercept system calls: only root may; run it with sudo, or for your own containers "podman unshare intercede serve --user"',
    )
  try {
    const [notification, response] = sizes()
    if (notification === SECCOMP_NOTIF_SIZE && response === SECCOMP_NOTIF_RESP_SIZE) return
    throw new Error(`Cannot intercept system calls: the kernel's seccomp_notif has ${notification} bytes, known are 80`)
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    throw new Error(
      'Cannot intercept system calls: this kernel has no seccomp user notification; Intercede requires Linux 5.12 or later with CONFIG_SECCOMP_FILTER (see intercede doctor)',
    )
  }
}
