import type { Cap } from '../abi/capability.ts'
import { errnos } from '../abi/errno.ts'
import type { Verb, Verbs } from '../calls/act.ts'
import { SyscallError } from '../kernel/error.ts'
import { mknodat } from '../kernel/files.ts'

/** With what the act is done: each list is one object, since the sets are kept by it. */
const MAKE: readonly Cap[] = ['MKNOD']
const MAKE_KEEPING_SGID: readonly Cap[] = ['MKNOD', 'FSETID']
const MAKE_ANYWHERE: readonly Cap[] = ['MKNOD', 'DAC_OVERRIDE']
const MAKE_ANYWHERE_KEEPING_SGID: readonly Cap[] = ['MKNOD', 'DAC_OVERRIDE', 'FSETID']
/** Only a mode with both is changed by the kernel, for a caller without CAP_FSETID; linux/fs/inode.c mode_strip_sgid() */
const SGID_AND_GROUP_EXECUTE = 0o2010

export const mknod: Verb<Verbs['mknod']> = {
  caps: MAKE,
  over: ['DAC_OVERRIDE', 'FSETID'],
  lane: 'slow',
  safe:
    'Only character devices of the policy are made, whose drivers give nothing beyond what every container has in its /dev; ' +
    'in a directory that was opened as the caller, with its ids, groups and umask, so that every permission check is the one ' +
    'that the kernel makes for the caller itself. A capability over files that the caller holds in its user namespace counts ' +
    'for this one directory, if both its owner and its group are mapped there.',
  run({ dir, name, mode, dev }, caller) {
    const make = (caps: readonly Cap[]): void => caller.act(caps, () => mknodat(dir, name, mode, dev))
    const keeps = (mode & SGID_AND_GROUP_EXECUTE) === SGID_AND_GROUP_EXECUTE && caller.commands(dir, 'FSETID')
    try {
      make(keeps ? MAKE_KEEPING_SGID : MAKE)
    } catch (error) {
      if (!isRefusal(error) || !caller.commands(dir, 'DAC_OVERRIDE')) throw error
      make(keeps ? MAKE_ANYWHERE_KEEPING_SGID : MAKE_ANYWHERE)
    }
    return { value: 0n }
  },
}

/** The first try was the kernel's own answer for a caller without capabilities over files; nothing was made. */
const isRefusal = (error: unknown): boolean => error instanceof SyscallError && error.errno === errnos.EACCES
