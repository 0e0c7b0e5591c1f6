/**
 * File systems that no list can allow. Each is mounted as root of the host, and either finds its source by a string,
 * which the container would choose, or shows the host in any case. Other file systems without a block device are found
 * when they are mounted (mounter/mount-source.ts); these are known before.
 */
const names: readonly (readonly [types: readonly string[], why: string])[] = [
  [
    // A network namespace does not help: request-key(8) and rpc.gssd(8) answer on the host, with its tickets and keys.
    ['nfs', 'nfs4', 'cifs', 'smb3', 'ceph', 'afs', 'orangefs', 'pvfs2', 'lustre', 'gpfs', 'beegfs'],
    'would log in to servers as the host, with its Kerberos tickets, keys and reserved ports',
  ],
  [['gfs2', 'ocfs2', 'ocfs2_dlmfs'], 'would join the cluster of the host'],
  [['zfs'], 'would mount any file system of the pools of the host'],
  [['ubifs', 'jffs2', 'yaffs', 'yaffs2'], 'would mount the flash memory of the host'],
  [['virtiofs', 'vboxsf', 'vmhgfs', 'prl_fs', 'hostfs'], 'would mount what the hypervisor shares with the host'],
  [['ecryptfs'], 'would use the keys of the host'],
  [['devtmpfs'], 'would show the devices of the host'],
  [
    [
      ...[
        'debugfs',
        'tracefs',
        'securityfs',
        'configfs',
        'pstore',
        'efivarfs',
        'selinuxfs',
        'smackfs',
        'resctrl',
        'xenfs',
      ],
      ...['functionfs', 'gadgetfs', 'fusectl', 'spufs', 'openpromfs', 'ibmasmfs', 's390_hypfs'],
    ],
    'would show the kernel of the host and let it be changed',
  ],
]

const reasons = new Map(names.flatMap(([types, why]) => types.map((type) => [type, why] as const)))

/**
 * Says what a container would get with this file system; undefined if nothing is known against it. A subtype, as in
 * fuseblk.ntfs, is the same driver.
 */
export const hostFileSystem = (type: string): string | undefined => reasons.get(type.split('.')[0]!)

/** File systems that the kernel mounts in any user namespace (FS_USERNS_MOUNT), as the container's own. */
export const OPEN_TO_ALL: ReadonlySet<string> = new Set([
  ...['tmpfs', 'ramfs', 'proc', 'sysfs', 'devpts', 'mqueue', 'overlay', 'fuse', 'bpf', 'binfmt_misc', 'binder'],
  ...['cgroup', 'cgroup2', 'cpuset', 'rpc_pipefs', 'nfsd'],
])

/** Tells whether a list would allow the type in vain; a tmpfs in a list is served as one of the host's. */
export const needsNoList = (type: string): boolean => type !== 'tmpfs' && OPEN_TO_ALL.has(type)
