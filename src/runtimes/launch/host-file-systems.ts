import type { Mount } from '../../kernel/procfs/mountinfo.ts'

const contains = (outer: string, inner: string): boolean => inner.startsWith(outer === '/' ? '/' : `${outer}/`)

/**
 * Tells whether a mount is hidden: by a mount on top of it, by a sibling nearer to the root, or since its parent is
 * hidden.
 */
function isCovered(mount: Mount, all: readonly Mount[]): boolean {
  const above = all.find(({ id }) => id === mount.parent && id !== mount.id)
  return (
    all.some(({ parent, point, id }) => parent === mount.id && point === mount.point && id !== mount.id) ||
    all.some(({ parent, point, id }) => parent === mount.parent && id !== mount.id && contains(point, mount.point)) ||
    (above !== undefined && above.point !== mount.point && isCovered(above, all))
  )
}

/** Pseudo file systems of the kernel, of which the container gets new instances or none. */
const PSEUDO = new Set(
  `autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs proc
  pstore ramfs rpc_pipefs securityfs selinuxfs sysfs tracefs`.split(/\s+/),
)

/** File systems that a server or a program implements: an overlay on them could hang for ever. */
export const REMOTE = /^(fuse(\..*)?|fuseblk|nfs\d?|cifs|smb3|9p|ceph|afs|glusterfs|lustre|ocfs2|gfs2|virtiofs)$/

/** Paths below which the container has directories of its own. */
const REPLACED = ['/proc', '/sys', '/dev', '/run', '/root', '/tmp', '/var/tmp']

/** Returns the mounts with files of the host: always the root, which comes first, and parents before children. */
export function hostFileSystems(all: readonly Mount[]): Mount[] {
  const isWanted = ({ point, type }: Mount): boolean =>
    point === '/' ||
    (!PSEUDO.has(type) && !REMOTE.test(type) && !REPLACED.some((path) => path === point || contains(path, point)))
  return all
    .filter((mount) => isWanted(mount) && !isCovered(mount, all))
    .toSorted((a, b) => a.point.length - b.point.length)
}
