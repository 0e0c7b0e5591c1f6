import type { Mismatch } from './compare.ts'
import { mountOf, type Start } from './scene.ts'

/** Where a container does not get what the kernel would have given it, and why that is wanted. */
export interface Difference {
  readonly name: string
  readonly why: string
  readonly covers: (mismatch: Mismatch) => boolean
}

/** What a native call gives where only the file system itself is left to be asked. */
const afterItsChecks: ReadonlySet<string> = new Set(['ok', 'ENOSPC'])

const refusedBy = ({ ours, theirs, record }: Mismatch, ...reasons: readonly string[]): boolean =>
  ours === 'EPERM' && afterItsChecks.has(theirs) && record?.verdict === 'continue' && reasons.includes(record.reason)

const wanted: readonly Difference[] = [
  {
    name: 'a device that the policy does not allow',
    why: 'Only harmless devices are made. The kernel answers, which refuses after all its other checks.',
    covers: (mismatch) => refusedBy(mismatch, 'deviceNotAllowed'),
  },
  {
    name: 'a mount without devices',
    why:
      'The node could not be opened: success means usable. A usable one would be mounted there, but these containers have ' +
      'no mount namespace of their own.',
    covers: (mismatch) =>
      mountOf(mismatch.trial.case.scene)?.kind === 'noDevices' && refusedBy(mismatch, 'nodevMount', 'hostMounts'),
  },
]

/** How links of procfs are named that are not `self`'s or `thread-self`'s own. */
const byNumber: ReadonlySet<Start> = new Set([
  'procPidCwd',
  'procPidRoot',
  'procPidFd',
  'procTaskCwd',
  'procDirfd',
  'cwdInProc',
] as const)

/** Not wanted: what is to be mended. To be deleted, one by one, and not to grow. */
const untilMended: readonly Difference[] = [
  {
    name: 'procfs by the number of a process, or from a descriptor or a working directory in it',
    why: 'Such links are not followed yet; the kernel answers.',
    covers: (mismatch) =>
      byNumber.has(mismatch.trial.case.scene.start) && refusedBy(mismatch, 'crossesProc', 'pathNotResolved'),
  },
  {
    name: 'forty links and one of procfs',
    why: 'Links are counted anew after a link of procfs.',
    covers: ({ trial: { case: one }, theirs }) => theirs === 'ELOOP' && one.scene.way === 'linkChain',
  },
  {
    name: 'CAP_DAC_READ_SEARCH in the last directory',
    why: 'It is not held when the node is made, so that the kernel cannot look whether the name is there.',
    covers: ({ trial: { case: one }, ours, record }) =>
      one.scene.caller.caps === 'mknodSearch' && ours === 'EACCES' && record?.reason === 'kernelAnswered',
  },
  {
    name: 'an idmapped mount that does not map the root of the host',
    why: 'It is taken for a file system that the container mounted.',
    covers: (mismatch) => {
      const kind = mountOf(mismatch.trial.case.scene)?.kind
      return (kind === 'shift' || kind === 'narrow') && refusedBy(mismatch, 'hostMounts', 'containerSuperblock')
    },
  },
]

export const isWanted = (difference: Difference): boolean => wanted.includes(difference)

export const differenceOf = (mismatch: Mismatch): Difference | undefined =>
  [...wanted, ...untilMended].find(({ covers }) => covers(mismatch))
