// setxattr(2), getxattr(2), listxattr(2), removexattr(2) with their kin, by man-pages and fs/xattr.c.

import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, O_PATH } from '../../../src/abi/fcntl.ts'
import { XATTR_CREATE, XATTR_REPLACE } from '../../../src/abi/xattr.ts'
import { AS_USER, BAD_FD, type Case, each, type Family, steps } from '../case.ts'

const OPAQUE = 's:trusted.overlay.opaque'
interface Setting {
  readonly path?: string
  readonly name?: string
  readonly value?: string
  readonly size?: number
  readonly flags?: number
}
const set = (
  { path = 's:f', name = OPAQUE, value = 's:y', size = 1, flags = 0 }: Setting = {},
  call = 'setxattr',
): string => `${call} ${path} ${name} ${value} ${size} ${flags}`
const get = (path = 's:f', name = OPAQUE, buffer = 'o:100', size = 100, call = 'getxattr'): string =>
  `${call} ${path} ${name} ${buffer} ${size}`
const list = (path = 's:f', buffer = 'o:200', size = 200, call = 'listxattr'): string =>
  `${call} ${path} ${buffer} ${size}`
const remove = (path = 's:f', name = OPAQUE, call = 'removexattr'): string => `${call} ${path} ${name}`
const SHOWS = 'attributes f'

const names: readonly Case[] = each({ before: 'touch f', shows: SHOWS }, [
  { name: 'trusted.overlay.opaque, y', calls: set() },
  { name: 'trusted.overlay.opaque, x', calls: set({ value: 's:x' }), why: 'attribute' },
  { name: 'trusted.overlay.opaque, yy', calls: set({ value: 's:yy', size: 2 }), why: 'attribute' },
  { name: 'trusted.overlay.opaque, of no bytes', calls: set({ size: 0 }), why: 'attribute' },
  { name: 'trusted.other, y', calls: set({ name: 's:trusted.other' }), why: 'attribute' },
  { name: 'trusted., y', calls: set({ name: 's:trusted.' }), why: 'attribute' },
  { name: 'user.a, y', calls: set({ name: 's:user.a' }) },
  { name: 'user., y', calls: set({ name: 's:user.' }) },
  { name: 'security.other, y', calls: set({ name: 's:security.other' }), why: 'attribute' },
  { name: 'security.capability, y', calls: set({ name: 's:security.capability' }) },
  { name: 'system.posix_acl_access, y', calls: set({ name: 's:system.posix_acl_access' }) },
  { name: 'nonsense.a, y', calls: set({ name: 's:nonsense.a' }) },
  { name: 'a name without a dot', calls: set({ name: 's:opaque' }) },
  { name: 'an empty name', calls: set({ name: 's:' }) },
  { name: 'a name of 255 bytes', calls: set({ name: 'a:255' }) },
  { name: 'a name of 256 bytes', calls: set({ name: 'a:256' }) },
  { name: 'a null name', calls: set({ name: 'null' }) },
  { name: 'a name at a bad address', calls: set({ name: 'bad' }) },
  { name: 'a null value', calls: set({ value: 'null' }) },
  { name: 'a value at a bad address', calls: set({ value: 'bad' }) },
  { name: 'a value beyond the largest', calls: set({ value: 'p:70000', size: 65_537 }) },
  { name: 'a size with bits above the 32nd', calls: set({ size: 0x1_0000_0001 }) },
])

const flags: readonly Case[] = each({ before: 'touch f', shows: SHOWS }, [
  { name: 'XATTR_CREATE', calls: set({ flags: XATTR_CREATE }) },
  { name: 'XATTR_CREATE, where it is', calls: steps(set(), set({ flags: XATTR_CREATE })) },
  { name: 'XATTR_REPLACE', calls: steps(set(), set({ flags: XATTR_REPLACE })) },
  { name: 'XATTR_REPLACE, where it is not', calls: set({ flags: XATTR_REPLACE }) },
  { name: 'both of these', calls: set({ flags: XATTR_CREATE | XATTR_REPLACE }) },
  { name: 'a flag that there is not', calls: set({ flags: 4 }) },
])

const objects: readonly Case[] = each(
  { before: 'touch f; mkdir d; ln -s f l; ln -s none to-none; mkfifo p', shows: 'attributes -h f d l p' },
  [
    { name: 'a directory', calls: set({ path: 's:d' }) },
    { name: 'a FIFO', calls: set({ path: 's:p' }) },
    { name: 'user.a of a FIFO', calls: set({ path: 's:p', name: 's:user.a' }) },
    {
      name: 'a node of a device',
      calls: steps(`mknodat ${AT_FDCWD} s:n 020666 259`, set({ path: 's:n' })),
      shows: 'attributes n',
    },
    { name: 'by a link', calls: set({ path: 's:l' }) },
    { name: 'by a link to nothing', calls: set({ path: 's:to-none' }) },
    { name: 'nothing', calls: set({ path: 's:none' }) },
    { name: 'below a file', calls: set({ path: 's:f/x' }) },
    { name: 'an empty path', calls: set({ path: 's:' }) },
    { name: 'a null path', calls: set({ path: 'null' }) },
    { name: 'a path at a bad address', calls: set({ path: 'bad' }) },
    { name: 'a file of another user', before: 'touch f; chown 1000:1000 f; chmod 400 f', calls: set(), shows: SHOWS },
    {
      name: 'a file of a user that the container does not have',
      calls: set({ path: 's:../foreign' }),
      shows: 'attributes ../foreign; setfattr -x trusted.overlay.opaque ../foreign',
      why: 'foreign',
    },
    {
      name: 'on a read-only bind mount',
      before: 'mkdir m; touch m/f; mount --bind m m; mount -o remount,bind,ro m',
      calls: set({ path: 's:m/f' }),
      shows: 'attributes m/f',
    },
    {
      name: 'on a tmpfs',
      before: 'mkdir m; mount -t tmpfs x m; touch m/f',
      calls: set({ path: 's:m/f' }),
      shows: 'attributes m/f',
    },
    {
      name: 'on ext4 that is mounted',
      before: 'mkdir m',
      calls: steps(
        'mount s:$EXT4 s:m s:ext4 0 null',
        set({ path: 's:m/hello' }),
        get('s:m/hello'),
        remove('s:m/hello'),
      ),
      shows: '',
    },
    {
      name: 'on an overlay',
      before: 'mkdir l u w m; touch l/f; mount -t overlay -o lowerdir=l,upperdir=u,workdir=w,userxattr x m',
      calls: set({ path: 's:m/f' }),
      shows: 'attributes m/f',
      why: 'overlay',
    },
    { name: 'in procfs', calls: set({ path: 's:/proc/self/status' }), shows: '', why: 'procfs' },
    { name: 'by a user', before: 'touch f; chmod 777 f', calls: steps(AS_USER, set()), shows: SHOWS },
    {
      name: 'user.a by a user',
      before: 'touch f; chmod 777 f',
      calls: steps(AS_USER, set({ name: 's:user.a' })),
      shows: SHOWS,
    },
  ],
)

const open = (flags = 0, path = 'f'): string => `@openat ${AT_FDCWD} s:${path} ${flags}`
const forms: readonly Case[] = each({ before: 'touch f; ln -s f l', shows: 'attributes -h f l' }, [
  { name: 'lsetxattr of a file', calls: set({}, 'lsetxattr') },
  { name: 'lsetxattr of a link', calls: set({ path: 's:l' }, 'lsetxattr') },
  { name: 'lsetxattr of user.a of a link', calls: set({ path: 's:l', name: 's:user.a' }, 'lsetxattr') },
  { name: 'fsetxattr', calls: steps(open(), set({ path: '=0' }, 'fsetxattr')) },
  { name: 'fsetxattr of a descriptor by O_PATH', calls: steps(open(O_PATH), set({ path: '=0' }, 'fsetxattr')) },
  { name: 'fsetxattr of a descriptor that is not open', calls: set({ path: String(BAD_FD) }, 'fsetxattr') },
])

const got: readonly Case[] = each({ before: 'touch f; ln -s f l; setfattr -n user.a -v b f' }, [
  { name: 'getxattr', calls: steps(set(), get()) },
  { name: 'getxattr of what is not there', calls: get() },
  { name: 'getxattr of its size', calls: steps(set(), `%${get('s:f', OPAQUE, 'null', 0)}`) },
  {
    name: 'getxattr, with too little room',
    calls: steps(set({ name: 's:user.long', value: 's:abc', size: 3 }), get('s:f', 's:user.long', 'o:2', 2)),
  },
  { name: 'getxattr, at a bad address', calls: steps(set(), get('s:f', OPAQUE, 'bad')) },
  { name: 'getxattr of user.a', calls: get('s:f', 's:user.a') },
  { name: 'getxattr of a null name', calls: get('s:f', 'null') },
  { name: 'getxattr of an empty name', calls: get('s:f', 's:') },
  { name: 'getxattr of nothing', calls: get('s:none') },
  {
    name: 'lgetxattr of a link',
    calls: steps(set({ path: 's:l' }, 'lsetxattr'), get('s:l', OPAQUE, 'o:100', 100, 'lgetxattr')),
  },
  { name: 'fgetxattr', calls: steps(open(), set(), get('=0', OPAQUE, 'o:100', 100, 'fgetxattr')) },
  { name: 'fgetxattr of a descriptor that is not open', calls: get(String(BAD_FD), OPAQUE, 'o:100', 100, 'fgetxattr') },
  { name: 'getxattr by a user', before: 'touch f; chmod 777 f', calls: steps(set(), AS_USER, get()) },
  { name: 'listxattr', calls: steps(set(), list()) },
  { name: 'listxattr of its size', calls: steps(set(), `%${list('s:f', 'null', 0)}`) },
  { name: 'listxattr, with too little room', calls: steps(set(), list('s:f', 'o:3', 3)) },
  { name: 'listxattr, at a bad address', calls: steps(set(), list('s:f', 'bad')) },
  { name: 'listxattr of nothing', calls: list('s:none') },
  { name: 'listxattr by a user', calls: steps(set(), AS_USER, list()) },
  {
    name: 'llistxattr of a link',
    calls: steps(set({ path: 's:l' }, 'lsetxattr'), list('s:l', 'o:200', 200, 'llistxattr')),
  },
  { name: 'flistxattr', calls: steps(open(), set(), list('=0', 'o:200', 200, 'flistxattr')) },
])

const removed: readonly Case[] = each(
  { before: 'touch f; ln -s f l; setfattr -n user.a -v b f', shows: 'attributes -h f l' },
  [
    { name: 'removexattr', calls: steps(set(), remove()) },
    { name: 'removexattr of what is not there', calls: remove() },
    { name: 'removexattr of user.a', calls: remove('s:f', 's:user.a') },
    {
      name: 'removexattr of trusted.other, which is not there',
      calls: remove('s:f', 's:trusted.other'),
      why: 'attribute',
    },
    { name: 'removexattr of an empty name', calls: remove('s:f', 's:') },
    { name: 'removexattr of nothing', calls: remove('s:none') },
    { name: 'removexattr by a user', before: 'touch f; chmod 777 f', calls: steps(set(), AS_USER, remove()) },
    {
      name: 'lremovexattr of a link',
      calls: steps(set({ path: 's:l' }, 'lsetxattr'), remove('s:l', OPAQUE, 'lremovexattr')),
    },
    { name: 'fremovexattr', calls: steps(open(), set(), remove('=0', OPAQUE, 'fremovexattr')) },
  ],
)

const struct = (value: string, size: number, flags = 0): string => `t:8@${value}+4@${size}+4@${flags}`
const setAt = (
  path = 's:f',
  flags = 0,
  bytes = struct('s:y', 1),
  size = 16,
  directory: number | string = AT_FDCWD,
): string => `setxattrat ${directory} ${path} ${flags} ${OPAQUE} ${bytes} ${size}`
const ats: readonly Case[] = each({ before: 'touch f; ln -s f l', shows: 'attributes -h f l' }, [
  { name: 'setxattrat', calls: setAt() },
  { name: 'setxattrat of a link, with AT_SYMLINK_NOFOLLOW', calls: setAt('s:l', AT_SYMLINK_NOFOLLOW) },
  {
    name: 'setxattrat of a descriptor, with AT_EMPTY_PATH',
    calls: steps(open(), setAt('s:', AT_EMPTY_PATH, struct('s:y', 1), 16, '=0')),
  },
  { name: 'setxattrat of a descriptor, without it', calls: steps(open(), setAt('s:', 0, struct('s:y', 1), 16, '=0')) },
  { name: 'setxattrat with a flag that there is not', calls: setAt('s:f', 0x40000) },
  { name: 'setxattrat with a flag of the struct that there is not', calls: setAt('s:f', 0, struct('s:y', 1, 4)) },
  { name: 'setxattrat with a struct that is too short', calls: setAt('s:f', 0, struct('s:y', 1), 15) },
  {
    name: 'setxattrat with a struct that is longer, with zeros',
    calls: setAt('s:f', 0, `${struct('s:y', 1)}+8@0`, 24),
  },
  { name: 'setxattrat with a struct that is longer, with more', calls: setAt('s:f', 0, `${struct('s:y', 1)}+8@1`, 24) },
  { name: 'setxattrat with a struct at a bad address', calls: setAt('s:f', 0, 'bad') },
  { name: 'getxattrat', calls: steps(setAt(), `getxattrat ${AT_FDCWD} s:f 0 ${OPAQUE} ${struct('o:20', 20)} 16`) },
  { name: 'listxattrat', calls: steps(setAt(), `listxattrat ${AT_FDCWD} s:f 0 o:200 200`) },
  { name: 'removexattrat', calls: steps(setAt(), `removexattrat ${AT_FDCWD} s:f 0 ${OPAQUE}`) },
])

export const xattr: readonly Family[] = [
  { name: 'setxattr, lsetxattr, fsetxattr', cases: [...names, ...flags, ...objects, ...forms] },
  { name: 'getxattr, listxattr and their kin', cases: got },
  { name: 'removexattr and its kin', cases: removed },
  { name: 'setxattrat and its kin', cases: ats },
]
