// mount_setattr(2), by man-pages and fs/namespace.c.

import { AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE } from '../../../src/abi/fcntl.ts'
import { MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE } from '../../../src/abi/mount.ts'
import { AS_USER, BAD_FD, type Case, each, type Family, steps } from '../case.ts'

interface Attributes {
  readonly set?: number
  readonly clear?: number
  readonly propagation?: bigint
  readonly userns?: number
}
const struct = ({ set = 0, clear = 0, propagation = 0n, userns = 0 }: Attributes): string =>
  `t:8@${set}+8@${clear}+8@${propagation}+8@${userns}`
const change = (attributes: Attributes, flags = 0, size = 32): string =>
  `mount_setattr ${AT_FDCWD} s:m ${flags} ${struct(attributes)} ${size}`

const ATTRIBUTES: readonly (readonly [string, number])[] = [
  ['RDONLY', 1],
  ['NOSUID', 2],
  ['NODEV', 4],
  ['NOEXEC', 8],
  ['NODIRATIME', 0x80],
  ['NOSYMFOLLOW', 0x200000],
]
const ATIME = 0x70
const locked = (name: string): Partial<Case> => (name.endsWith('ATIME') ? { why: 'locked', podman: 'unlocked' } : {})

const bound: readonly Case[] = each({ before: 'mkdir m d d/e; mount --bind d m', shows: 'flags m' }, [
  ...ATTRIBUTES.flatMap(([name, attribute]) => [
    { name: `set ${name} of a bind mount`, calls: change({ set: attribute }), ...locked(name) },
    {
      name: `set and clear ${name} of a bind mount`,
      calls: steps(change({ set: attribute }), change({ clear: attribute })),
      ...locked(name),
    },
  ]),
  {
    name: 'set NOATIME of a bind mount',
    calls: change({ set: 0x10, clear: ATIME }),
    why: 'locked',
    podman: 'unlocked',
  },
  {
    name: 'set STRICTATIME of a bind mount',
    calls: change({ set: 0x20, clear: ATIME }),
    why: 'locked',
    podman: 'unlocked',
  },
  { name: 'set NOATIME, and clear nothing', calls: change({ set: 0x10 }) },
  { name: 'clear a part of the access times', calls: change({ clear: 0x10 }) },
  { name: 'set NOATIME and STRICTATIME', calls: change({ set: 0x30, clear: ATIME }) },
  { name: 'nothing', calls: change({}) },
  { name: 'an attribute that there is not', calls: change({ set: 0x40000000 }) },
  { name: 'an idmap without a descriptor', calls: change({ set: 0x100000, userns: BAD_FD }) },
  { name: 'an idmap with a descriptor of something else', calls: change({ set: 0x100000, userns: 0 }) },
  { name: 'clear an idmap', calls: change({ clear: 0x100000 }) },
  ...(
    [
      ['MS_SHARED', MS_SHARED],
      ['MS_PRIVATE', MS_PRIVATE],
      ['MS_SLAVE', MS_SLAVE],
      ['MS_UNBINDABLE', MS_UNBINDABLE],
    ] as const
  ).map(([name, propagation]) => ({ name: `propagation ${name}`, calls: change({ propagation }), shows: 'shares m' })),
  { name: 'two propagations', calls: change({ propagation: MS_SHARED | MS_SLAVE }) },
  {
    name: 'AT_RECURSIVE',
    before: 'mkdir m d d/e; mount --bind d m; mount -t tmpfs x m/e',
    calls: change({ set: 8 }, AT_RECURSIVE),
    shows: 'flags m/e',
  },
  { name: 'a struct that is too short', calls: change({ set: 1 }, 0, 31) },
  { name: 'a struct of no size', calls: change({ set: 1 }, 0, 0) },
  { name: 'a struct that is longer, with zeros', calls: `mount_setattr ${AT_FDCWD} s:m 0 t:8@1+8@0+8@0+8@0+8@0 40` },
  { name: 'a struct that is longer, with more', calls: `mount_setattr ${AT_FDCWD} s:m 0 t:8@1+8@0+8@0+8@0+8@1 40` },
  { name: 'a struct beyond a page', calls: change({ set: 1 }, 0, 4097) },
  { name: 'a struct at a bad address', calls: `mount_setattr ${AT_FDCWD} s:m 0 bad 32` },
  { name: 'a null struct', calls: `mount_setattr ${AT_FDCWD} s:m 0 null 32` },
  { name: 'a flag that there is not', calls: change({ set: 1 }, 0x40000) },
  { name: 'what is not mounted', before: 'mkdir m', calls: change({ set: 1 }) },
  { name: 'nothing there', calls: `mount_setattr ${AT_FDCWD} s:none 0 ${struct({ set: 1 })} 32` },
  {
    name: 'a descriptor that is not open',
    calls: `mount_setattr ${BAD_FD} s: ${AT_EMPTY_PATH} ${struct({ set: 1 })} 32`,
  },
  { name: 'by a user', before: 'mkdir m d; mount --bind d m; chmod 755 .', calls: steps(AS_USER, change({ set: 1 })) },
])

const MOUNT = 'mount s:$EXT4 s:m s:ext4 0 null'
const unattached = (attributes: Attributes): string =>
  steps(
    'fsopen s:ext4 1',
    'fsconfig =0 1 s:source s:$EXT4 0',
    'fsconfig =0 6 null null 0',
    'fsmount =0 1 0',
    `mount_setattr =3 s: ${AT_EMPTY_PATH} ${struct(attributes)} 32`,
    `move_mount =3 s: ${AT_FDCWD} s:m 4`,
  )
const ext4: readonly Case[] = each({ before: 'mkdir m', shows: 'flags m' }, [
  { name: 'set RDONLY of ext4', calls: steps(MOUNT, change({ set: 1 })) },
  { name: 'set and clear RDONLY of ext4', calls: steps(MOUNT, change({ set: 1 }), change({ clear: 1 })) },
  { name: 'set NOSUID and NOEXEC of ext4', calls: steps(MOUNT, change({ set: 0xa })) },
  { name: 'set NODEV of ext4', calls: steps(MOUNT, change({ set: 4 })) },
  { name: 'clear NODEV of ext4', calls: steps(MOUNT, change({ clear: 4 })), why: 'nodev' },
  { name: 'set NOATIME of ext4', calls: steps(MOUNT, change({ set: 0x10, clear: ATIME })), why: 'atime' },
  { name: 'propagation MS_SHARED of ext4', calls: steps(MOUNT, change({ propagation: MS_SHARED })), shows: 'shares m' },
  { name: 'set NOEXEC of ext4 before it is attached', calls: unattached({ set: 8 }) },
  { name: 'set NOATIME of ext4 before it is attached', calls: unattached({ set: 0x10, clear: ATIME }) },
  {
    name: 'set NOATIME and clear NODEV of ext4 before it is attached',
    calls: unattached({ set: 0x10, clear: ATIME | 4 }),
    why: 'nodev',
  },
])

export const mountSetattr: readonly Family[] = [{ name: 'mount_setattr', cases: [...bound, ...ext4] }]
