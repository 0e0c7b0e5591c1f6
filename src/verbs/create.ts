import type { Mode } from '../abi/brand.ts'
import type { Cap } from '../abi/capability.ts'
import { errnos } from '../abi/errno.ts'
import type { Caller } from '../calls/caller.ts'
import { SyscallError } from '../kernel/error.ts'
import type { Handle } from '../kernel/handle.ts'

/** Capability sets by what else is needed: each is one object, since the kernel's form of a set is kept by it. */
export interface Sets {
  readonly plain: readonly Cap[]
  readonly sgid: readonly Cap[]
  readonly dac: readonly Cap[]
  readonly dacSgid: readonly Cap[]
}

export const sets = (...caps: readonly Cap[]): Sets => ({
  plain: caps,
  sgid: [...caps, 'FSETID'],
  dac: [...caps, 'DAC_OVERRIDE'],
  dacSgid: [...caps, 'DAC_OVERRIDE', 'FSETID'],
})

/** Only a mode with both is changed by the kernel, for a caller without CAP_FSETID; linux/fs/inode.c mode_strip_sgid() */
const SGID_AND_GROUP_EXECUTE = 0o2010

/**
 * Creates something in `dir` as the caller: first without any capability over files, so that success is the kernel's own
 * answer; only when that is refused, with the caller's own, and only if the directory belongs to the container.
 */
export function createIn(
  caller: Caller,
  dir: Handle,
  mode: Mode,
  { plain, sgid, dac, dacSgid }: Sets,
  make: () => void,
): void {
  const keeps = (mode & SGID_AND_GROUP_EXECUTE) === SGID_AND_GROUP_EXECUTE && caller.commands(dir, 'FSETID')
  try {
    caller.act(keeps ? sgid : plain, make)
  } catch (error) {
    const refused = error instanceof SyscallError && error.errno === errnos.EACCES
    if (!refused || !caller.commands(dir, 'DAC_OVERRIDE')) throw error
    caller.act(keeps ? dacSgid : dac, make)
  }
}
