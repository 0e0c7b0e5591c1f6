import type { Mismatch } from './compare.ts'
import { mountOf } from './scene.ts'

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

/** To be deleted with the arrival of what resolves paths with the caller's capabilities over files. */
const untilTheWalker: readonly Difference[] = []

export const differences: readonly Difference[] = [...wanted, ...untilTheWalker]

export const differenceOf = (mismatch: Mismatch): Difference | undefined =>
  differences.find(({ covers }) => covers(mismatch))
