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
    name: 'a device that the device rules of the container do not grant',
    why: 'A node would let nobody open it. The kernel answers, which refuses after all its other checks.',
    wanted: true,
    covers: (mismatch) => refusedBy(mismatch, 'deviceNotGranted'),
  },
  {
    name: "an idmapped mount of a tmpfs of the host whose own ids are the container's",
    why:
      'The ids in mountinfo are all that tells it from one that the container has mounted, where the node could not be opened. ' +
      'A usable one would be mounted there, but these containers have no mount namespace of their own.',
    wanted: true,
    covers: (mismatch) => {
      const { scene } = mismatch.trial.case
      const kind = mountOf(scene)?.kind
      return (
        scene.fileSystem === 'memory' && (kind === 'shift' || kind === 'narrow') && refusedBy(mismatch, 'hostMounts')
      )
    },
  },
]
