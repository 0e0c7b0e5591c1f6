import type { Mode } from '../abi/brand.ts'
import { S_ISGID, S_IXGRP } from '../abi/stat.ts'
import type { Caller } from '../calls/caller.ts'
import { OWN, type Step } from '../calls/steps.ts'
import { isErrno } from '../kernel/error.ts'
import type { Handle } from '../kernel/handle.ts'

/** Mode bits that the kernel changes together for a caller without CAP_FSETID; linux/fs/inode.c mode_strip_sgid(). */
const SGID_AND_GROUP_EXECUTE = S_ISGID | S_IXGRP

/** Capabilities by which a caller may enter a directory; the one that allows more comes first. */
const OVER_FILES = ['DAC_OVERRIDE', 'DAC_READ_SEARCH'] as const

/**
 * Creates a file in `dir` as the caller: first without any capability over files, so that success is the kernel's own
 * answer. Only if that is refused, and only if the directory belongs to the container, the caller's own capabilities
 * are added. Even the right to search without the right to write matters, since EEXIST comes before EACCES.
 */
export function createIn<T>(
  caller: Caller,
  dir: Handle,
  mode: Mode,
  step: Step,
  make: (own: number) => T,
  how: 'act' | 'look' = 'act',
): T {
  const keeps = (mode & SGID_AND_GROUP_EXECUTE) === SGID_AND_GROUP_EXECUTE && caller.commands(dir, 'FSETID')
  const own = keeps ? OWN.FSETID : 0
  try {
    return caller[how](step, () => make(own), own)
  } catch (error) {
    const cap = isErrno(error, 'EACCES') ? OVER_FILES.find((each) => caller.commands(dir, each)) : undefined
    if (!cap) throw error
    const all = own | OWN[cap]
    return caller[how](step, () => make(all), all)
  }
}
