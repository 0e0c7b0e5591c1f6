// mount(2), by man-pages and fs/namespace.c path_mount().

import {
  MS_BIND,
  MS_DIRSYNC,
  MS_MGC_VAL,
  MS_MOVE,
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_NOUSER,
  MS_PRIVATE,
  MS_RDONLY,
  MS_REC,
  MS_REMOUNT,
  MS_SHARED,
  MS_SLAVE,
  MS_SYNCHRONOUS,
  MS_UNBINDABLE,
} from '../../../src/abi/mount.ts'
import { AS_USER, type Case, each, type Family, steps } from '../case.ts'

/** Flags of linux/mount.h that only these cases name. */
const MS = {
  MANDLOCK: 1n << 6n,
  NOSYMFOLLOW: 1n << 8n,
  SILENT: 1n << 15n,
  POSIXACL: 1n << 16n,
  RELATIME: 1n << 21n,
  KERNMOUNT: 1n << 22n,
  I_VERSION: 1n << 23n,
  STRICTATIME: 1n << 24n,
  LAZYTIME: 1n << 25n,
  ACTIVE: 1n << 30n,
} as const

const mounted = (flags: bigint, source: string, target = 's:m', type = 'null', data = 'null'): string =>
  `mount ${source} ${target} ${type} ${flags} ${data}`
const ext4 = (flags = 0n, data = 'null'): string => mounted(flags, 's:$EXT4', 's:m', 's:ext4', data)
const tmpfs = (flags = 0n, data = 'null'): string => mounted(flags, 's:x', 's:m', 's:tmpfs', data)
/** A change of the mount at m. */
const changed = (flags: bigint): string => mounted(flags, 'null')

const FLAGS: readonly (readonly [string, bigint])[] = [
  ['no flag', 0n],
  ['MS_RDONLY', MS_RDONLY],
  ['MS_NOSUID', MS_NOSUID],
  ['MS_NODEV', MS_NODEV],
  ['MS_NOEXEC', MS_NOEXEC],
  ['MS_SYNCHRONOUS', MS_SYNCHRONOUS],
  ['MS_MANDLOCK', MS.MANDLOCK],
  ['MS_DIRSYNC', MS_DIRSYNC],
  ['MS_NOSYMFOLLOW', MS.NOSYMFOLLOW],
  ['MS_NOATIME', MS_NOATIME],
  ['MS_NODIRATIME', MS_NODIRATIME],
  ['MS_RELATIME', MS.RELATIME],
  ['MS_STRICTATIME', MS.STRICTATIME],
  ['MS_SILENT', MS.SILENT],
  ['MS_POSIXACL', MS.POSIXACL],
  ['MS_I_VERSION', MS.I_VERSION],
  ['MS_LAZYTIME', MS.LAZYTIME],
  ['MS_KERNMOUNT', MS.KERNMOUNT],
  ['MS_ACTIVE', MS.ACTIVE],
  ['MS_NOUSER', MS_NOUSER],
  ['MS_REC', MS_REC],
  ['MS_MGC_VAL', MS_MGC_VAL],
  ['MS_MGC_VAL with MS_RDONLY', MS_MGC_VAL | MS_RDONLY],
  ['MS_NOSUID, MS_NOEXEC, MS_NOATIME at once', MS_NOSUID | MS_NOEXEC | MS_NOATIME],
]

const flags: readonly Case[] = FLAGS.flatMap(([name, flag]) =>
  each({ before: 'mkdir m', shows: 'flags m' }, [
    { name: `ext4 with ${name}`, calls: ext4(flag) },
    { name: `tmpfs with ${name}`, calls: tmpfs(flag) },
  ]),
)

/** What the flags do, of which the list of mounts says only that they are there. */
const effects: readonly Case[] = each({ before: 'mkdir m' }, [
  {
    name: 'ext4: its files, by their owners',
    calls: ext4(),
    shows: 'stat -c "%n %a %u:%g" m/hello m/theirs; cat m/hello',
  },
  { name: 'ext4: a file is written', calls: ext4(), shows: 'tries touch m/new && stat -c "%u:%g" m/new; rm m/new' },
  { name: 'ext4 with MS_RDONLY: a file is written', calls: ext4(MS_RDONLY), shows: 'tries touch m/new' },
  {
    name: 'ext4 with MS_NOEXEC: a program is executed',
    calls: ext4(MS_NOEXEC),
    shows: 'cp /bin/true m/p; tries m/p; rm m/p',
  },
  { name: 'ext4: a program is executed', calls: ext4(), shows: 'cp /bin/true m/p; tries m/p; rm m/p' },
  { name: 'ext4 with MS_NODEV: a node of the image is opened', calls: ext4(MS_NODEV), shows: 'opens m/null' },
  { name: 'ext4: a node of the image is opened', calls: ext4(), shows: 'opens m/null', why: 'nodev' },
  {
    name: 'ext4 with MS_NOSYMFOLLOW: a link is followed',
    calls: ext4(MS.NOSYMFOLLOW),
    shows: 'ln -s hello m/l; tries cat m/l; rm m/l',
  },
  {
    name: 'ext4 with MS_NOSUID: a program that is set-user-ID',
    calls: ext4(MS_NOSUID),
    shows: 'cp /usr/bin/id m/id; chown 1000 m/id; chmod 4755 m/id; m/id -u; rm m/id',
  },
  {
    name: 'ext4: a program that is set-user-ID',
    calls: ext4(),
    shows: 'cp /usr/bin/id m/id; chown 1000 m/id; chmod 4755 m/id; m/id -u; rm m/id',
  },
  { name: 'tmpfs: a node is opened', calls: tmpfs(), shows: 'tries mknod -m 666 m/n c 1 3; opens m/n; tries rm m/n' },
  {
    name: 'tmpfs with its size and number of files',
    calls: tmpfs(0n, 's:size=4k,nr_inodes=2'),
    shows: 'tries sh -c "head -c 8192 /dev/zero >m/f"; stat -c %s m/f; tries touch m/g',
  },
  {
    name: 'tmpfs with uid=, gid= and mode=',
    calls: tmpfs(0n, 's:uid=1000,gid=1000,mode=711'),
    shows: 'stat -c "%a %u:%g" m',
  },
])

const TYPES: readonly (readonly [string, Partial<Case>?])[] = [
  ['ext4'],
  ['ext2', { name: 'ext2, by the driver of ext4, which does not shift ids', why: 'shift' }],
  ['xfs'],
  ['btrfs'],
  ['squashfs'],
  ['erofs'],
]
const images: readonly Case[] = TYPES.map(([type, more]) => ({
  name: type,
  before: 'mkdir m',
  calls: mounted(MS_RDONLY, `s:$${type.toUpperCase()}`, 's:m', `s:${type}`),
  shows: 'stat -c "%n %a %u:%g" m/hello m/theirs; cat m/hello',
  ...more,
}))

const virtual = (type: string, more: Partial<Case> = {}): Case => ({
  name: `${type}, which is on no disk`,
  before: 'mkdir m',
  calls: mounted(0n, 's:x', 's:m', `s:${type}`),
  shows: 'below m',
  ...more,
})
const types: readonly Case[] = [
  ...images,
  ...['tmpfs', 'ramfs', 'proc', 'sysfs', 'mqueue', 'devpts', 'cgroup2'].map((type) => virtual(type)),
  virtual('hugetlbfs'),
  ...['devtmpfs', 'debugfs', 'tracefs', 'securityfs', 'pstore', 'bpf'].map((type) => virtual(type, { why: 'refused' })),
  virtual('binfmt_misc'),
  virtual('nonsense'),
  {
    name: 'overlay',
    before: 'mkdir l u w m; touch l/f',
    calls: mounted(0n, 's:x', 's:m', 's:overlay', 's:lowerdir=l,upperdir=u,workdir=w,userxattr'),
    shows: 'ls m',
  },
  { name: 'fuse, without a descriptor', before: 'mkdir m', calls: mounted(0n, 's:x', 's:m', 's:fuse') },
]

const SOURCES: readonly (readonly [string, string])[] = [
  ['null', 'null'],
  ['empty', 's:'],
  ['absent', 's:none'],
  ['a file', 's:f'],
  ['a directory', 's:d'],
  ['a character device', 's:/dev/null'],
  ['a link to the device', 's:l'],
  ['below a file', 's:f/x'],
  ['a loop of links', 's:loop'],
  ['at a bad address', 'bad'],
  ['of 256 bytes', 'a:256'],
  ['of 4096 bytes', 'a:4096'],
]
const IN_PLACE = 'mkdir m d; touch f; ln -s loop loop; ln -s "$EXT4" l; ln -s d to-d; ln -s none to-none'
const sources: readonly Case[] = SOURCES.map(([name, source]) => ({
  name: `a source that is ${name}`,
  before: IN_PLACE,
  calls: mounted(0n, source, 's:m', 's:ext4'),
  shows: 'flags m',
}))

const TARGETS: readonly (readonly [string, string])[] = [
  ['null', 'null'],
  ['empty', 's:'],
  ['absent', 's:none'],
  ['a file', 's:f'],
  ['a link to a directory', 's:to-d'],
  ['a link to nothing', 's:to-none'],
  ['a loop of links', 's:loop'],
  ['below a file', 's:f/x'],
  ['at a bad address', 'bad'],
  ['of 256 bytes', 'a:256'],
  ['of 4096 bytes', 'a:4096'],
]
const targets: readonly Case[] = TARGETS.map(([name, target]) => ({
  name: `a target that is ${name}`,
  before: IN_PLACE,
  calls: mounted(0n, 's:$EXT4', target, 's:ext4'),
  shows: 'flags d',
}))

const others: readonly Case[] = each({ before: IN_PLACE, shows: 'flags m' }, [
  { name: 'a type that the device has not', calls: mounted(0n, 's:$EXT4', 's:m', 's:xfs') },
  { name: 'a type that nobody knows', calls: mounted(0n, 's:$EXT4', 's:m', 's:nonsense') },
  { name: 'an empty type', calls: mounted(0n, 's:$EXT4', 's:m', 's:') },
  { name: 'no type', calls: mounted(0n, 's:$EXT4', 's:m') },
  { name: 'a type at a bad address', calls: mounted(0n, 's:$EXT4', 's:m', 'bad') },
  { name: 'an option that the file system does not know', calls: ext4(0n, 's:nonsense') },
  { name: 'an option with a bad value', calls: ext4(0n, 's:commit=x') },
  { name: 'an option, commit=7', calls: ext4(0n, 's:commit=7'), shows: 'grep -o commit=7 /proc/self/mountinfo' },
  { name: 'options at a bad address', calls: ext4(0n, 'bad') },
  { name: 'twice on one directory', calls: steps(ext4(), ext4()) },
  { name: 'in two directories', calls: steps(ext4(), mounted(0n, 's:$EXT4', 's:d', 's:ext4')), shows: 'flags d' },
  {
    name: 'in two directories, the second time read-only',
    calls: steps(ext4(), mounted(MS_RDONLY, 's:$EXT4', 's:d', 's:ext4')),
    shows: 'flags d',
  },
  {
    name: 'in a directory of a user that the container does not have',
    calls: mounted(0n, 's:$EXT4', 's:../foreign', 's:ext4'),
    shows: 'flags ../foreign; umount ../foreign',
  },
])

const callers: readonly Case[] = each({ before: 'mkdir m; chmod 777 . m', shows: 'flags m' }, [
  { name: 'ext4, by a user', calls: steps(AS_USER, ext4()) },
  { name: 'a bind mount, by a user', calls: steps(AS_USER, mounted(MS_BIND, 's:m')) },
  { name: 'ext4, by root without capabilities', calls: steps('@capset t:4@0x20080522+4@0 t:8@0+8@0+8@0', ext4()) },
])

const BOUND = 'mkdir m d d/e; touch d/f; mount --bind d m'
const binds: readonly Case[] = each({ before: 'mkdir m d d/e; touch d/f f g', shows: 'ls m; flags m' }, [
  { name: 'MS_BIND', calls: mounted(MS_BIND, 's:d') },
  { name: 'MS_BIND of a file', calls: mounted(MS_BIND, 's:f', 's:g'), shows: 'flags g' },
  { name: 'MS_BIND of a file on a directory', calls: mounted(MS_BIND, 's:f') },
  { name: 'MS_BIND of a directory on a file', calls: mounted(MS_BIND, 's:d', 's:f') },
  { name: 'MS_BIND of nothing', calls: mounted(MS_BIND, 's:none') },
  { name: 'MS_BIND of a null source', calls: mounted(MS_BIND, 'null') },
  { name: 'MS_BIND with flags that it does not take', calls: mounted(MS_BIND | MS_RDONLY | MS_NOEXEC, 's:d') },
  {
    name: 'MS_BIND of what is mounted below, too',
    before: 'mkdir m d d/e; mount -t tmpfs x d/e; touch d/e/f',
    calls: mounted(MS_BIND, 's:d'),
    shows: 'ls m/e',
  },
  {
    name: 'MS_BIND and MS_REC',
    before: 'mkdir m d d/e; mount -t tmpfs x d/e; touch d/e/f',
    calls: mounted(MS_BIND | MS_REC, 's:d'),
    shows: 'ls m/e',
  },
  {
    name: 'MS_BIND of what is unbindable',
    before: `${BOUND}; mkdir n; mount --make-unbindable m`,
    calls: mounted(MS_BIND, 's:m', 's:n'),
  },
])

const moves: readonly Case[] = each({ before: `${BOUND}; mkdir n`, shows: 'ls m n' }, [
  { name: 'MS_MOVE', calls: mounted(MS_MOVE, 's:m', 's:n') },
  {
    name: 'MS_MOVE of ext4',
    before: 'mkdir m n',
    calls: steps(ext4(), mounted(MS_MOVE, 's:m', 's:n')),
    shows: 'ls m; cat n/hello',
  },
  { name: 'MS_MOVE of what is not mounted', before: 'mkdir m n', calls: mounted(MS_MOVE, 's:m', 's:n') },
  { name: 'MS_MOVE below itself', calls: mounted(MS_MOVE, 's:m', 's:m/e') },
  { name: 'MS_MOVE of nothing', calls: mounted(MS_MOVE, 's:none', 's:n') },
  {
    name: 'MS_MOVE of a shared mount, to below one',
    before: 'mkdir m; mount -t tmpfs x m; mount --make-shared m; mkdir m/a m/b; mount -t tmpfs y m/a',
    calls: mounted(MS_MOVE, 's:m/a', 's:m/b'),
    shows: '',
  },
])

const propagation: readonly Case[] = each({ before: BOUND, shows: 'shares m' }, [
  { name: 'MS_SHARED', calls: changed(MS_SHARED) },
  { name: 'MS_PRIVATE', calls: changed(MS_PRIVATE) },
  { name: 'MS_SLAVE', calls: steps(changed(MS_SHARED), changed(MS_SLAVE)) },
  { name: 'MS_UNBINDABLE', calls: changed(MS_UNBINDABLE) },
  { name: 'MS_SHARED with MS_REC', calls: changed(MS_SHARED | MS_REC) },
  { name: 'MS_SHARED with MS_SILENT', calls: changed(MS_SHARED | MS.SILENT) },
  { name: 'MS_SHARED and MS_PRIVATE', calls: changed(MS_SHARED | MS_PRIVATE) },
  { name: 'MS_SHARED with MS_RDONLY', calls: changed(MS_SHARED | MS_RDONLY) },
  { name: 'MS_SHARED of what is not mounted', before: 'mkdir m', calls: changed(MS_SHARED) },
  { name: 'MS_SHARED of ext4', before: 'mkdir m', calls: steps(ext4(), changed(MS_SHARED)) },
])

const remounts: readonly Case[] = [
  ...FLAGS.slice(1, 14)
    .filter(([name]) => !/SYNC|MANDLOCK/.test(name))
    .map(([name, flag]) => ({
      name: `MS_REMOUNT and MS_BIND with ${name}`,
      before: BOUND,
      calls: changed(MS_REMOUNT | MS_BIND | flag),
      shows: 'flags m',
      ...(/(NO|STRICT|NODIR)ATIME/.test(name) ? { why: 'locked' as const, podman: 'unlocked' as const } : {}),
    })),
  ...each({ before: 'mkdir m', shows: 'flags m' }, [
    {
      name: 'MS_REMOUNT and MS_BIND of ext4, read-only',
      calls: steps(ext4(), changed(MS_REMOUNT | MS_BIND | MS_RDONLY)),
      why: 'nodev',
    },
    {
      name: 'MS_REMOUNT and MS_BIND of ext4, read-only, with the flags that it has',
      calls: steps(ext4(MS_NODEV), changed(MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV | MS.RELATIME)),
    },
    {
      name: 'MS_REMOUNT and MS_BIND of ext4, with other access times',
      calls: steps(ext4(MS_NODEV), changed(MS_REMOUNT | MS_BIND | MS_NOATIME | MS_NODEV)),
      why: 'atime',
    },
    { name: 'MS_REMOUNT of ext4, read-only', calls: steps(ext4(), changed(MS_REMOUNT | MS_RDONLY)), why: 'superblock' },
    {
      name: 'MS_REMOUNT of ext4, with an option',
      calls: steps(ext4(), mounted(MS_REMOUNT, 'null', 's:m', 'null', 's:commit=9')),
      why: 'superblock',
    },
    {
      name: 'MS_REMOUNT of a tmpfs, with another size',
      calls: steps(tmpfs(), mounted(MS_REMOUNT, 'null', 's:m', 'null', 's:size=64k')),
      shows: 'stat -f -c %b m',
    },
    {
      name: 'MS_REMOUNT of a tmpfs, read-only',
      calls: steps(tmpfs(), changed(MS_REMOUNT | MS_RDONLY)),
      shows: 'tries touch m/f',
    },
    {
      name: 'MS_REMOUNT of a proc',
      calls: steps(mounted(0n, 's:x', 's:m', 's:proc'), changed(MS_REMOUNT | MS_RDONLY)),
    },
    { name: 'MS_REMOUNT of what is not mounted', calls: changed(MS_REMOUNT | MS_RDONLY) },
    { name: 'MS_REMOUNT of nothing', calls: mounted(MS_REMOUNT, 'null', 's:none') },
  ]),
]

export const mount: readonly Family[] = [
  { name: 'mount: flags', cases: [...flags, ...effects] },
  { name: 'mount: types', cases: types },
  { name: 'mount: arguments', cases: [...sources, ...targets, ...others, ...callers] },
  { name: 'mount: bind, move, propagation', cases: [...binds, ...moves, ...propagation] },
  { name: 'mount: remount', cases: remounts },
]
