// fsopen(2), fsconfig(2), fsmount(2), move_mount(2), fspick(2) and open_tree(2), by man-pages and fs/fsopen.c, fs/namespace.c.

import { AT_FDCWD, AT_RECURSIVE, O_DIRECTORY } from '../../../src/abi/fcntl.ts'
import { FSCONFIG } from '../../../src/abi/mount.ts'
import { AS_USER, BAD_FD, type Case, each, type Family, steps } from '../case.ts'

const EMPTY_PATH = 4
const T_EMPTY_PATH = 0x40
const open = (type: string, flags = 1): string => `fsopen ${type} ${flags}`
const set = (command: number, key = 'null', value = 'null', aux = 0, context = '=0'): string =>
  `fsconfig ${context} ${command} ${key} ${value} ${aux}`
const source = set(FSCONFIG.SET_STRING, 's:source', 's:$EXT4')
const create = set(FSCONFIG.CMD_CREATE)
/** Steps 0 to 2: a context of an ext4 that is made. */
const EXT4 = [open('s:ext4'), source, create] as const
const fsmount = (attributes = 0, flags = 1, context = '=0'): string => `fsmount ${context} ${flags} ${attributes}`
const move = (tree: string | number, target = 's:m', flags = EMPTY_PATH, path = 's:'): string =>
  `move_mount ${tree} ${path} ${AT_FDCWD} ${target} ${flags}`
/** Steps 0 to 3, the last of them the mount. */
const MOUNT = [...EXT4, fsmount()] as const

const fsopen: readonly Case[] = [
  ...['ext4', 'xfs', 'tmpfs', 'proc', 'overlay', 'nonsense'].map((type) => ({ name: type, calls: open(`s:${type}`) })),
  { name: 'devtmpfs', calls: open('s:devtmpfs') },
  { name: 'devtmpfs, and CMD_CREATE', calls: steps(open('s:devtmpfs'), set(FSCONFIG.CMD_CREATE)), why: 'refused' },
  { name: 'an empty type', calls: open('s:') },
  { name: 'a null type', calls: open('null') },
  { name: 'a type at a bad address', calls: open('bad') },
  { name: 'a type of 4096 bytes', calls: open('a:4096') },
  { name: 'no flag', calls: open('s:ext4', 0) },
  { name: 'a flag that there is not', calls: open('s:ext4', 2) },
  { name: 'by a user', calls: steps(AS_USER, open('s:ext4')) },
]

const configured = (name: string, ...calls: readonly string[]): Case => ({
  name,
  calls: steps(open('s:ext4'), ...calls),
})
const fsconfig: readonly Case[] = [
  configured('SET_STRING, source', source),
  configured('SET_STRING, source, twice', source, source),
  configured('SET_STRING, an option', set(FSCONFIG.SET_STRING, 's:commit', 's:7')),
  configured('SET_STRING, an option with a bad value', set(FSCONFIG.SET_STRING, 's:commit', 's:x')),
  configured('SET_STRING, an option that there is not', set(FSCONFIG.SET_STRING, 's:nonsense', 's:x')),
  configured('SET_STRING without a key', set(FSCONFIG.SET_STRING, 'null', 's:x')),
  configured('SET_STRING without a value', set(FSCONFIG.SET_STRING, 's:source')),
  configured('SET_STRING with a number', set(FSCONFIG.SET_STRING, 's:source', 's:x', 1)),
  configured('SET_STRING, a key at a bad address', set(FSCONFIG.SET_STRING, 'bad', 's:x')),
  configured('SET_STRING, a value at a bad address', set(FSCONFIG.SET_STRING, 's:source', 'bad')),
  configured('SET_STRING, a key of 256 bytes', set(FSCONFIG.SET_STRING, 'a:256', 's:x')),
  configured('SET_STRING, a value of 256 bytes', set(FSCONFIG.SET_STRING, 's:source', 'a:256')),
  configured('SET_FLAG, ro', set(FSCONFIG.SET_FLAG, 's:ro')),
  configured('SET_FLAG, an option of the file system', set(FSCONFIG.SET_FLAG, 's:noload')),
  configured('SET_FLAG, an option that takes a value', set(FSCONFIG.SET_FLAG, 's:commit')),
  configured('SET_FLAG, source, and then SET_STRING', set(FSCONFIG.SET_FLAG, 's:source'), source, create),
  configured('SET_FLAG, an option that there is not', set(FSCONFIG.SET_FLAG, 's:nonsense')),
  configured('SET_FLAG with a value', set(FSCONFIG.SET_FLAG, 's:ro', 's:x')),
  configured('SET_BINARY', set(FSCONFIG.SET_BINARY, 's:nonsense', 's:x', 1)),
  configured('SET_BINARY of no bytes', set(FSCONFIG.SET_BINARY, 's:nonsense', 's:x', 0)),
  configured('SET_PATH', set(FSCONFIG.SET_PATH, 's:nonsense', 's:.', AT_FDCWD)),
  configured('SET_PATH, of nothing', set(FSCONFIG.SET_PATH, 's:journal_path', 's:none', AT_FDCWD)),
  configured('SET_PATH_EMPTY', set(FSCONFIG.SET_PATH_EMPTY, 's:nonsense', 's:', AT_FDCWD)),
  configured('SET_FD', set(FSCONFIG.SET_FD, 's:nonsense', 'null', 0)),
  configured('SET_FD, a descriptor that is not open', set(FSCONFIG.SET_FD, 's:nonsense', 'null', BAD_FD)),
  configured('CMD_CREATE', source, create),
  configured('CMD_CREATE, twice', source, create, create),
  configured('CMD_CREATE without a source', create),
  configured('CMD_CREATE with a source that there is not', set(FSCONFIG.SET_STRING, 's:source', 's:none'), create),
  configured('CMD_CREATE with a key', source, set(FSCONFIG.CMD_CREATE, 's:x')),
  configured('CMD_CREATE_EXCL', source, set(FSCONFIG.CMD_CREATE_EXCL)),
  configured('CMD_RECONFIGURE of what is not made', source, set(FSCONFIG.CMD_RECONFIGURE)),
  {
    name: 'CMD_RECONFIGURE of ext4 that is made',
    before: 'mkdir m',
    calls: steps(...MOUNT, move('=3'), set(FSCONFIG.SET_FLAG, 's:ro'), set(FSCONFIG.CMD_RECONFIGURE)),
    why: 'superblock',
  },
  configured('an option after CMD_CREATE', source, create, set(FSCONFIG.SET_STRING, 's:commit', 's:7')),
  configured('a command that there is not', set(99)),
  { name: 'a descriptor that is not open', calls: set(FSCONFIG.SET_FLAG, 's:ro', 'null', 0, String(BAD_FD)) },
  {
    name: 'a descriptor of something else',
    before: 'touch f',
    calls: steps('@openat -100 s:f 0', set(FSCONFIG.SET_FLAG, 's:ro')),
  },
  { name: 'a descriptor of -1', calls: set(FSCONFIG.SET_FLAG, 's:ro', 'null', 0, '-1') },
  {
    name: 'two contexts, in turn',
    calls: steps(
      open('s:ext4'),
      open('s:tmpfs'),
      source,
      set(FSCONFIG.SET_STRING, 's:size', 's:1m', 0, '=1'),
      create,
      set(FSCONFIG.CMD_CREATE, 'null', 'null', 0, '=1'),
    ),
  },
]

const ATTRIBUTES: readonly (readonly [string, number])[] = [
  ['no attribute', 0],
  ['MOUNT_ATTR_RDONLY', 1],
  ['MOUNT_ATTR_NOSUID', 2],
  ['MOUNT_ATTR_NODEV', 4],
  ['MOUNT_ATTR_NOEXEC', 8],
  ['MOUNT_ATTR_NOATIME', 0x10],
  ['MOUNT_ATTR_STRICTATIME', 0x20],
  ['both of these', 0x30],
  ['MOUNT_ATTR_NODIRATIME', 0x80],
  ['MOUNT_ATTR_NOSYMFOLLOW', 0x200000],
  ['MOUNT_ATTR_IDMAP', 0x100000],
  ['an attribute that there is not', 0x40000000],
]
const fsmounts: readonly Case[] = each({ before: 'mkdir m', shows: 'flags m' }, [
  ...ATTRIBUTES.map(([name, attribute]) => ({
    name: `ext4 with ${name}`,
    calls: steps(...EXT4, fsmount(attribute), move('=3')),
  })),
  { name: 'tmpfs', calls: steps(open('s:tmpfs'), create, fsmount(), move('=2')) },
  { name: 'without FSMOUNT_CLOEXEC', calls: steps(...EXT4, fsmount(0, 0), move('=3')) },
  { name: 'a flag that there is not', calls: steps(...EXT4, fsmount(0, 2)) },
  { name: 'what is not made', calls: steps(open('s:ext4'), source, fsmount()) },
  { name: 'twice', calls: steps(...MOUNT, fsmount()), why: 'spent' },
  { name: 'a descriptor that is not open', calls: fsmount(0, 1, String(BAD_FD)) },
  { name: 'a descriptor of something else', before: 'mkdir m; touch f', calls: steps('@openat -100 s:f 0', fsmount()) },
  {
    name: 'a file below what stands nowhere',
    calls: steps(...MOUNT, 'openat =3 s:hello 0', move('=3')),
    shows: 'cat m/hello',
  },
])

const moves: readonly Case[] = each({ before: 'mkdir m n; touch f', shows: 'below m' }, [
  { name: 'ext4', calls: steps(...MOUNT, move('=3')), shows: 'below m; cat m/hello; stat -c %u:%g m/theirs' },
  {
    name: 'ext4, on a directory by its descriptor',
    calls: steps(...MOUNT, `@openat -100 s:m ${O_DIRECTORY}`, `move_mount =3 s: =4 s: ${EMPTY_PATH | T_EMPTY_PATH}`),
  },
  { name: 'ext4, without the flag of an empty path', calls: steps(...MOUNT, move('=3', 's:m', 0)) },
  { name: 'ext4, on a file', calls: steps(...MOUNT, move('=3', 's:f')) },
  { name: 'ext4, on nothing', calls: steps(...MOUNT, move('=3', 's:none')) },
  { name: 'ext4, on an empty path', calls: steps(...MOUNT, move('=3', 's:')) },
  { name: 'ext4, on a null path', calls: steps(...MOUNT, move('=3', 'null')) },
  { name: 'ext4, on a path at a bad address', calls: steps(...MOUNT, move('=3', 'bad')) },
  { name: 'ext4, with a flag that there is not', calls: steps(...MOUNT, move('=3', 's:m', 0x1000)) },
  {
    name: 'ext4, moved on',
    calls: steps(...MOUNT, move('=3'), move(AT_FDCWD, 's:n', 0, 's:m')),
    shows: 'below m; below n',
  },
  {
    name: 'ext4, moved on by its descriptor',
    calls: steps(...MOUNT, move('=3'), move('=3', 's:n')),
    shows: 'below m; below n',
  },
  {
    name: 'a path of the old API',
    before: 'mkdir m n; mount --bind n m; mkdir o',
    calls: move(AT_FDCWD, 's:o', 0, 's:m'),
    shows: 'below m; below o',
  },
  { name: 'what is not mounted', calls: move(AT_FDCWD, 's:n', 0, 's:m') },
  { name: 'a descriptor that is not open', calls: move(BAD_FD) },
  { name: 'a descriptor of a context', calls: steps(...EXT4, move('=0')) },
  { name: 'a tree of open_tree', calls: steps(`open_tree ${AT_FDCWD} s:n 1`, move('=0')) },
])

const TREE = 'mkdir m d d/e; touch d/f; mount --bind d m'
const trees: readonly Case[] = each({ before: `${TREE}; mkdir n` }, [
  { name: 'a directory', calls: `open_tree ${AT_FDCWD} s:d 0` },
  { name: 'OPEN_TREE_CLONE', calls: steps(`open_tree ${AT_FDCWD} s:m 1`, move('=0', 's:n')), shows: 'ls n' },
  {
    name: 'OPEN_TREE_CLONE of ext4',
    before: 'mkdir m n',
    calls: steps('mount s:$EXT4 s:m s:ext4 0 null', `open_tree ${AT_FDCWD} s:m 1`, move('=1', 's:n')),
    shows: 'cat n/hello; flags n',
  },
  {
    name: 'OPEN_TREE_CLONE with AT_RECURSIVE',
    calls: steps(`open_tree ${AT_FDCWD} s:m ${1 | AT_RECURSIVE}`, move('=0', 's:n')),
    shows: 'ls n',
  },
  { name: 'AT_RECURSIVE alone', calls: `open_tree ${AT_FDCWD} s:m ${AT_RECURSIVE}` },
  { name: 'a flag that there is not', calls: `open_tree ${AT_FDCWD} s:m 2` },
  { name: 'nothing', calls: `open_tree ${AT_FDCWD} s:none 0` },
  { name: 'a descriptor that is not open', calls: `open_tree ${BAD_FD} s:m 0` },
  {
    name: 'OPEN_TREE_CLONE by a user',
    before: `${TREE}; chmod 755 . m`,
    calls: steps(AS_USER, `open_tree ${AT_FDCWD} s:m 1`),
  },
])

const pick = (path: string, flags = 1): string => `fspick ${AT_FDCWD} ${path} ${flags}`
const picks: readonly Case[] = each({ before: 'mkdir m; mount -t tmpfs x m' }, [
  { name: 'a tmpfs', calls: pick('s:m') },
  {
    name: 'a tmpfs, and CMD_RECONFIGURE',
    calls: steps(pick('s:m'), set(FSCONFIG.SET_STRING, 's:size', 's:64k'), set(FSCONFIG.CMD_RECONFIGURE)),
    shows: 'stat -f -c %b m',
  },
  { name: 'ext4', before: 'mkdir m', calls: steps('mount s:$EXT4 s:m s:ext4 0 null', pick('s:m')) },
  {
    name: 'ext4, and CMD_RECONFIGURE',
    before: 'mkdir m',
    calls: steps(
      'mount s:$EXT4 s:m s:ext4 0 null',
      pick('s:m'),
      set(FSCONFIG.SET_FLAG, 's:ro', 'null', 0, '=1'),
      set(FSCONFIG.CMD_RECONFIGURE, 'null', 'null', 0, '=1'),
    ),
    shows: 'flags m',
    why: 'superblock',
  },
  { name: 'what is not mounted', before: 'mkdir m', calls: pick('s:m') },
  { name: 'nothing', calls: pick('s:none') },
  { name: 'a flag that there is not', calls: pick('s:m', 0x100) },
  { name: 'by a user', calls: steps(AS_USER, pick('s:m')) },
])

export const contexts: readonly Family[] = [
  { name: 'fsopen', cases: fsopen },
  { name: 'fsconfig', cases: fsconfig },
  { name: 'fsmount', cases: fsmounts },
  { name: 'move_mount', cases: moves },
  { name: 'open_tree', cases: trees },
  { name: 'fspick', cases: picks },
]
