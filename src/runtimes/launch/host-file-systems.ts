import type { Mount } from '../../kernel/procfs/mountinfo.ts'

const contains = (outer: string, inner: string): boolean => inner.startsWith(outer === '/' ? '/' : `${outer}/`)

/** A mount that another one hides: on top of it, beside it but nearer to the root, or over its parent. */
function isCovered(mount: Mount, all: readonly Mount[]): boolean {
  const above = all.find(({ id }) => id === mount.parent && id !== mount.id)
  return (
    all.some(({ parent, point, id }) => parent === mount.id && point === mount.point && id !== mount.id) ||
    all.some(({ parent, point, id }) => parent === mount.parent && id !== mount.id && contains(point, mount.point)) ||
    (above !== undefined && above.point !== mount.point && isCovered(above, all))
  )
}

/** File systems of the kernel's own: the container gets fresh ones, or none. */
const PSEUDO = new Set(
  `autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs proc
  pstore ramfs rpc_pipefs securityfs selinuxfs sysfs tracefs`.split(/\s+/),
)

/** What a server or a program answers for: an overlay above it could hang for ever. */
const REMOTE = /^(fuse(\..*)?|fuseblk|nfs\d?|cifs|smb3|9p|ceph|afs|glusterfs|lustre|ocfs2|gfs2|virtiofs)$/

/** Below these the container has directories of its own. */
const REPLACED = ['/proc', '/sys', '/dev', '/run', '/root', '/tmp', '/var/tmp']

/** The mounts with files of the host, the root first and always, parents before children. */
export function hostFileSystems(all: readonly Mount[]): Mount[] {
  const isWanted = ({ point, type }: Mount): boolean =>
    point === '/' ||
    (!PSEUDO.has(type) && !REMOTE.test(type) && !REPLACED.some((path) => path === point || contains(path, point)))
  return all
    .filter((mount) => isWanted(mount) && !isCovered(mount, all))
    .toSorted((a, b) => a.point.length - b.point.length)
}
