import { errnos } from '../abi/errno.ts'
import type { Verb, Verbs } from '../calls/act.ts'
import { PassOn } from '../calls/verdict.ts'
import { SyscallError } from '../kernel/error.ts'
import { mknodat } from '../kernel/files.ts'

export const mknod: Verb<Verbs['mknod']> = {
  caps: ['MKNOD'],
  lane: 'slow',
  safe:
    'Only character devices of the policy are made, whose drivers give nothing beyond what every container has in its /dev; ' +
    'in a directory that was opened as the caller, with its ids, groups and umask, and with no capability but CAP_MKNOD, so ' +
    'that every permission check is the one that the kernel makes for the caller itself.',
  run({ dir, name, mode, dev }, caller) {
    try {
      caller.act(this.caps, () => mknodat(dir, name, mode, dev))
      return { value: 0n }
    } catch (error) {
      // Nothing was made. With capabilities over files in its namespace the caller might be let in: the kernel shall say.
      const refused = error instanceof SyscallError && error.errno === errnos.EACCES
      if (refused && caller.holds('DAC_OVERRIDE')) throw new PassOn('needsWalker')
      throw error
    }
  },
}
