import type { Mismatch } from './compare.ts'
import type { Difference } from './differences.ts'
import { mountOf, throughProcfs } from './scene.ts'
import type { XattrCase } from './setxattr-case.ts'

const leftFor = ({ record }: Mismatch<XattrCase>, ...reasons: readonly string[]): boolean =>
  record?.verdict === 'continue' && reasons.includes(record.reason)

/** Is it possible that the inode belongs to others: the object itself, a directory, what a link or a name outside leads to? */
function mayBeForeign({ scene, object, naming }: XattrCase): boolean {
  const { last, start, directories, way } = scene
  const owners = [object, ...directories].flatMap(({ user, group }) => [user, group])
  const outside = !('target' in last) && last.kind !== 'name'
  return (
    owners.includes('host') ||
    outside ||
    mountOf(scene)?.kind === 'narrow' ||
    /^in|^proc|Dirfd|chroot/.test(start) ||
    way === 'linkToFile' ||
    naming.startsWith('at')
  )
}

/** S_ISVTX and S_IWOTH. */
const STICKY = 0o1002

export const xattrDifferences: readonly Difference<XattrCase>[] = [
  {
    name: 'an inode that is not of the container',
    why: 'Its owner or group is not mapped there, so the capability of the caller is none over it. The kernel answers.',
    wanted: true,
    covers: (mismatch) => mayBeForeign(mismatch.trial.case) && leftFor(mismatch, 'notOfContainer'),
  },
  {
    name: 'names that only the host sees',
    why: 'xfs keeps access control lists in trusted.SGI_ACL_FILE too. Of such names only that of our attribute is added.',
    wanted: true,
    covers: ({ trial, theirs, record }) => {
      const { operation, disk, scene } = trial.case
      const hasAcl = scene.directories.some(({ access, defaults }) => access || defaults)
      const shorter = theirs === 'ok' || theirs === 'ERANGE'
      return operation === 'list' && disk === 'xfs' && hasAcl && shorter && record?.errno === 0
    },
  },
  {
    name: 'the size of a list of an overlay',
    why: 'Asked for the size alone, an overlay counts names too that it does not list. Ours is what the list will have.',
    wanted: true,
    covers: ({ trial, theirs, record }) => {
      const { operation, size, scene } = trial.case
      return (
        operation === 'list' && size === 0 && scene.fileSystem === 'overlay' && theirs === 'ok' && record?.errno === 0
      )
    },
  },
  {
    name: 'a link in a sticky directory, through procfs',
    why: 'Where procfs is walked for the caller, fs.protected_symlinks holds, whether or not the host has set it.',
    wanted: true,
    covers: (mismatch) => {
      const { scene } = mismatch.trial.case
      const isSticky = scene.directories.some(({ mode }) => (mode & STICKY) === STICKY)
      return isSticky && throughProcfs(scene) && leftFor(mismatch, 'pathNotResolved')
    },
  },
  {
    name: 'something in procfs',
    why: 'It has no attributes: the kernel says that it is not permitted, and to a privileged caller that it is not supported.',
    wanted: true,
    covers: (mismatch) =>
      mismatch.theirs === 'EOPNOTSUPP' && throughProcfs(mismatch.trial.case.scene) && leftFor(mismatch, 'crossesProc'),
  },
]
