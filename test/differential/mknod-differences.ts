import { type Difference, refusedBy } from './differences.ts'
import type { MknodCase } from './mknod.ts'
import { mountOf } from './scene.ts'

export const mknodDifferences: readonly Difference<MknodCase>[] = [
  {
    name: 'a device that the policy does not allow',
    why: 'Only harmless devices are made. The kernel answers, which refuses after all its other checks.',
    wanted: true,
    covers: (mismatch) => refusedBy(mismatch, 'deviceNotAllowed'),
  },
  {
    name: 'a mount without devices',
    why:
      'The node could not be opened: success means usable. A usable one would be mounted there, but these containers have ' +
      'no mount namespace of their own.',
    wanted: true,
    covers: (mismatch) =>
      mountOf(mismatch.trial.case.scene)?.kind === 'noDevices' && refusedBy(mismatch, 'nodevMount', 'hostMounts'),
  },
]
