import type { Mode } from '../abi/brand.ts'
import type { Cap } from '../abi/capability.ts'
import { errnos } from '../abi/errno.ts'
import type { Caller } from '../calls/caller.ts'
import { SyscallError } from '../kernel/error.ts'
import type { Handle } from '../kernel/handle.ts'

/** Capability sets by what else is needed: each is one object, since the kernel's form of a set is kept by it. */
export interface Sets {
  readonly plain: readonly Cap[]
  readonly DAC_OVERRIDE: readonly Cap[]
  readonly DAC_READ_SEARCH: readonly Cap[]
}

const kinds = (...caps: readonly Cap[]): Sets => ({
  plain: caps,
  DAC_OVERRIDE: [...caps, 'DAC_OVERRIDE'],
  DAC_READ_SEARCH: [...caps, 'DAC_READ_SEARCH'],
})

/** For an act that takes `caps`. */
export const sets = (...caps: readonly Cap[]): { readonly usual: Sets; readonly keepingSgid: Sets } => ({
  usual: kinds(...caps),
  keepingSgid: kinds(...caps, 'FSETID'),
})

/** Only a mode with both is changed by the kernel, for a caller without CAP_FSETID; linux/fs/inode.c mode_strip_sgid() */
const SGID_AND_GROUP_EXECUTE = 0o2010

/** What of a caller's capabilities may let it in; the one that allows more first. */
const OVER_FILES = ['DAC_OVERRIDE', 'DAC_READ_SEARCH'] as const

/**
 * Creates something in `dir` as the caller: first without any capability over files, so that success is the kernel's own
 * answer; only when that is refused, with the caller's own, and only if the directory belongs to the container. To be let
 * in without being allowed to write matters too: EEXIST comes before EACCES.
 */
export function createIn<T>(
  caller: Caller,
  dir: Handle,
  mode: Mode,
  all: ReturnType<typeof sets>,
  make: () => T,
  how: 'act' | 'look' = 'act',
): T {
  const keeps = (mode & SGID_AND_GROUP_EXECUTE) === SGID_AND_GROUP_EXECUTE && caller.commands(dir, 'FSETID')
  const set = keeps ? all.keepingSgid : all.usual
  try {
    return caller[how](set.plain, make)
  } catch (error) {
    const refused = error instanceof SyscallError && error.errno === errnos.EACCES
    const cap = refused ? OVER_FILES.find((each) => caller.commands(dir, each)) : undefined
    if (!cap) throw error
    return caller[how](set[cap], make)
  }
}
