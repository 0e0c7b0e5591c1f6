import { AT_FDCWD } from '../abi/fcntl.ts'
import type { ReasonCode } from '../calls/reason.ts'
import type { Fd } from '../kernel/fd.ts'
import { identify, O_RDONLY, openat } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { parentUserNamespace } from '../kernel/pidfd.ts'

/** What the init of a container looks like at the hand-over. */
export interface Init {
  /** Its user namespace: the container's initial one, held open so that its number stays its own. */
  readonly userns: Fd
  readonly usernsInode: bigint
  /** Why nothing can be done for this container, if so. */
  readonly barred: ReasonCode | undefined
}

/**
 * Looks at the process that a runtime handed over in state "creating". The runtime still waits for us, so the process is
 * there and its number is its own.
 *
 * @throws {SyscallError} ENOENT if there is no such process in our pid namespace
 */
export function inspectInit(pid: number): Init {
  const userns = openat(AT_FDCWD, cstring(`/proc/${pid}/ns/user`), O_RDONLY)
  return {
    userns,
    usernsInode: identify(userns.raw).ino,
    barred: barredBy(userns),
  }
}

function barredBy(userns: Fd): ReasonCode | undefined {
  using ours = openat(AT_FDCWD, cstring('/proc/self/ns/user'), O_RDONLY)
  const our = identify(ours.raw).ino
  if (identify(userns.raw).ino === our) return 'hostUserns'
  using parent = parentUserNamespace(userns)
  return parent && identify(parent.raw).ino === our ? undefined : 'foreignUserns'
}
