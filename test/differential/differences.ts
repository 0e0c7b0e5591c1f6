import type { Mismatch } from './compare.ts'
import { mountOf, overFiles, type Scene, type Start } from './scene.ts'

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

const inProcfs: ReadonlySet<Start> = new Set(['procDirfd', 'cwdInProc'] as const)
const throughProcfs = ({ start, way }: Scene): boolean => /proc|thread/i.test(start) || way.startsWith('linkProc')

/** Not wanted: what is to be mended. To be deleted, one by one, and not to grow. */
const untilMended: readonly Difference[] = [
  {
    name: 'a descriptor or a working directory in procfs',
    why: 'From there its links are not followed yet; the kernel answers.',
    covers: (mismatch) =>
      inProcfs.has(mismatch.trial.case.scene.start) && refusedBy(mismatch, 'crossesProc', 'pathNotResolved'),
  },
  {
    name: 'a link of procfs and a directory that only capabilities over files open',
    why: 'What resolves with the capabilities does not follow such a link.',
    covers: (mismatch) => {
      const { scene } = mismatch.trial.case
      return throughProcfs(scene) && overFiles(scene.caller) && refusedBy(mismatch, 'pathNotResolved')
    },
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
