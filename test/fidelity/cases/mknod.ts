// mknod(2) and mknodat(2), by man-pages and fs/namei.c do_mknodat().

import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../../../src/abi/fcntl.ts'
import { makedev, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG } from '../../../src/abi/stat.ts'
import { AS_USER, BAD_FD, type Case, each, type Family, steps } from '../case.ts'

const S_IFSOCK = 0o140000
const NULL = makedev(1, 3)
const node = (path: string, mode: number = S_IFCHR | 0o666, device: number | bigint = NULL): string =>
  `mknodat ${AT_FDCWD} ${path} ${mode} ${device}`
const at = (directory: number | string, path = 's:n'): string =>
  `mknodat ${directory} ${path} ${S_IFCHR | 0o666} ${NULL}`
const open = (path: string, flags: number): string => `@openat ${AT_FDCWD} s:${path} ${flags}`
const opens = (what: string, number: readonly [number, number]): Case => ({
  name: `${what} is made, and opens`,
  calls: node('s:n', S_IFCHR | 0o666, makedev(...number)),
  shows: 'node n; opens n',
})
const refused = (name: string, number: readonly [number, number], why: 'device' | 'block' = 'device'): Case => ({
  name,
  calls: node('s:n', (why === 'block' ? S_IFBLK : S_IFCHR) | 0o600, makedev(...number)),
  shows: 'node n',
  why,
})

const devices: readonly Case[] = [
  opens('null', [1, 3]),
  opens('zero', [1, 5]),
  opens('full', [1, 7]),
  opens('random', [1, 8]),
  opens('urandom', [1, 9]),
  { name: 'tty', calls: node('s:n', S_IFCHR | 0o666, makedev(5, 0)), shows: 'node n' },
  { name: 'console', calls: node('s:n', S_IFCHR | 0o600, makedev(5, 1)), shows: 'node n' },
  { name: 'a whiteout, 0:0', calls: node('s:n', S_IFCHR, 0), shows: 'node n' },
  { name: 'tun, of `mknod.devices`', calls: node('s:n', S_IFCHR | 0o600, makedev(10, 200)), shows: 'node n' },
  { name: 'fuse, of `mknod.devices`', calls: node('s:n', S_IFCHR | 0o600, makedev(10, 229)), shows: 'node n' },
  { name: 'ptmx, of `mknod.devices`', calls: node('s:n', S_IFCHR | 0o600, makedev(5, 2)), shows: 'node n' },
  refused('mem', [1, 1]),
  refused('kmsg', [1, 11]),
  refused('loop-control', [10, 237]),
  refused('a number that no driver has', [4095, 1_048_575]),
  refused('a disk', [8, 0], 'block'),
  refused('a loop device', [7, 0], 'block'),
  { name: 'a FIFO', calls: node('s:n', S_IFIFO | 0o644, 0), shows: 'node n' },
  { name: 'a socket', calls: node('s:n', S_IFSOCK | 0o644, 0), shows: 'node n' },
  { name: 'a regular file', calls: node('s:n', S_IFREG | 0o644, 0), shows: 'node n' },
  { name: 'a regular file, without a type', calls: node('s:n', 0o644, 0), shows: 'node n' },
  { name: 'a FIFO with a number, which is not looked at', calls: node('s:n', S_IFIFO | 0o644, NULL), shows: 'node n' },
  { name: 'a directory', calls: node('s:n', S_IFDIR | 0o755, 0) },
  { name: 'a symbolic link', calls: node('s:n', S_IFLNK | 0o777, 0) },
  { name: 'an unknown type', calls: node('s:n', 0o030000, 0) },
]

const arguments_: readonly Case[] = [
  { name: 'a mode with bits above the 16th', calls: node('s:n', 0x10000 | S_IFCHR | 0o666), shows: 'node n' },
  {
    name: 'a number with bits above the 32nd',
    calls: node('s:n', S_IFCHR | 0o666, (1n << 32n) | BigInt(NULL)),
    shows: 'node n',
  },
  { name: 'a null path', calls: node('null') },
  { name: 'a path at a bad address', calls: node('bad') },
  { name: 'a path that ends at the end of the memory', calls: node('e:n'), shows: 'node n' },
  { name: 'an empty path', calls: node('s:') },
  { name: 'a name of 255 bytes', calls: node('a:255'), shows: 'ls | wc -c' },
  { name: 'a name of 256 bytes', calls: node('a:256') },
  { name: 'a path of 4096 bytes', calls: node('a:4096') },
]

const paths: readonly Case[] = each({ shows: 'node n' }, [
  { name: 'there is a file', before: 'touch n', calls: node('s:n') },
  { name: 'there is a directory', before: 'mkdir n', calls: node('s:n') },
  { name: 'there is a link to a file', before: 'touch f; ln -s f n', calls: node('s:n') },
  { name: 'there is a link to nothing', before: 'ln -s f n', calls: node('s:n') },
  { name: 'there is such a node', calls: steps(node('s:n'), node('s:n')) },
  {
    name: 'there is a file, and the device is not allowed',
    before: 'touch n',
    calls: node('s:n', S_IFCHR | 0o600, makedev(1, 1)),
  },
  { name: 'no directory', calls: node('s:none/n') },
  { name: 'no directory, and the device is not allowed', calls: node('s:none/n', S_IFCHR | 0o600, makedev(1, 1)) },
  { name: 'below a file', before: 'touch f', calls: node('s:f/n') },
  { name: 'below a link to a directory', before: 'mkdir d; ln -s d l', calls: node('s:l/n'), shows: 'node d/n' },
  { name: 'below a link to nothing', before: 'ln -s none l', calls: node('s:l/n') },
  { name: 'below a loop of links', before: 'ln -s m l; ln -s l m', calls: node('s:l/n') },
  { name: 'with a slash behind it', calls: node('s:n/') },
  { name: 'a directory, with a slash behind it', before: 'mkdir n', calls: node('s:n/') },
  { name: '.', calls: node('s:.') },
  { name: '..', calls: node('s:..') },
  { name: '/', calls: node('s:/') },
  { name: 'by way of ..', before: 'mkdir -p d/e', calls: node('s:d/e/../../n') },
  { name: 'a name of blanks and line feeds', calls: node("'s:a b\nc'"), shows: "node 'a b\nc'" },
])

const directories: readonly Case[] = each({ shows: 'node n' }, [
  {
    name: 'relative to a directory',
    before: 'mkdir d',
    calls: steps(open('d', O_DIRECTORY), at('=0')),
    shows: 'node d/n',
  },
  {
    name: 'relative to a directory by O_PATH',
    before: 'mkdir d',
    calls: steps(open('d', O_PATH), at('=0')),
    shows: 'node d/n',
  },
  { name: 'relative to a file', before: 'touch f', calls: steps(open('f', 0), at('=0')) },
  { name: 'relative to a descriptor that is not open', calls: at(BAD_FD) },
  { name: 'relative to -1', calls: at(-1) },
  { name: 'an absolute path, and a descriptor that is not open', calls: at(BAD_FD, 's:$PWD/n') },
  {
    name: 'relative to a directory that was removed',
    before: 'mkdir d',
    calls: steps(open('d', O_DIRECTORY), `@unlinkat ${AT_FDCWD} s:d 0x200`, at('=0')),
  },
  {
    name: 'in a working directory that was removed',
    before: 'mkdir d',
    calls: steps('@chdir s:d', `@unlinkat ${AT_FDCWD} s:../d 0x200`, node('s:n')),
  },
  { name: 'behind another root', before: 'mkdir d', calls: steps('@chroot s:d', node('s:/n')), shows: 'node d/n' },
  {
    name: 'above another root',
    before: 'mkdir d',
    calls: steps('@chroot s:d', '@chdir s:/', node('s:../../n')),
    shows: 'node d/n',
  },
])

const modes: readonly Case[] = each({ shows: 'node n' }, [
  { name: 'under a umask of 027', calls: steps('@umask 027', node('s:n')) },
  { name: 'under no umask', calls: steps('@umask 0', node('s:n')) },
  {
    name: 'with set-user-ID, set-group-ID and the sticky bit',
    calls: steps('@umask 0', node('s:n', S_IFCHR | 0o7777)),
  },
  {
    name: 'in a directory with set-group-ID',
    before: 'mkdir d; chgrp 1000 d; chmod g+s d',
    calls: node('s:d/n'),
    shows: 'node d/n',
  },
  {
    name: 'in a sticky directory of another user',
    before: 'mkdir d; chmod 1777 d; chown 1000 d',
    calls: node('s:d/n'),
    shows: 'node d/n',
  },
  {
    name: 'in a directory of another user that only it may write to',
    before: 'mkdir -m 700 d; chown 1000 d',
    calls: node('s:d/n'),
    shows: 'node d/n',
  },
  {
    name: 'times of the node, and of its directory',
    calls: node('s:n'),
    shows: 'test "$(stat -c %Y .)" = "$(stat -c %Y n)" && test "$(stat -c %X n)" = "$(stat -c %Z n)" && echo equal',
  },
  {
    name: 'in a directory of a user that the container does not have',
    calls: node('s:../foreign/n'),
    shows: 'node ../foreign/n; rm -f ../foreign/n',
    why: 'foreign',
  },
])

const callers: readonly Case[] = each({ shows: 'node n', before: 'chmod 777 .' }, [
  { name: 'by a user', calls: steps(AS_USER, node('s:n')) },
  { name: 'by a user, where there is a file', before: 'chmod 777 .; touch n', calls: steps(AS_USER, node('s:n')) },
  { name: 'by a user, in a directory of root', before: 'mkdir d', calls: steps(AS_USER, node('s:d/n')) },
  {
    name: 'by a user, behind a directory of root that is closed',
    before: 'mkdir -m 700 d',
    calls: steps(AS_USER, node('s:d/e/n')),
  },
  { name: 'a FIFO, by a user', calls: steps(AS_USER, node('s:n', S_IFIFO | 0o644, 0)) },
  { name: 'a whiteout, by a user', calls: steps(AS_USER, node('s:n', S_IFCHR, 0)) },
  { name: 'by root without capabilities', calls: steps('@capset t:4@0x20080522+4@0 t:8@0+8@0+8@0', node('s:n')) },
  {
    name: 'by another user id with the capability',
    calls: steps(
      '@setresuid -1 1000 0',
      '@capset t:4@0x20080522+4@0 t:4@0x8000000+4@0x8000000+4@0+8@0+4@0',
      node('s:n'),
    ),
  },
])

const TMPFS = 'mkdir m; mount -t tmpfs'
const mounts: readonly Case[] = each({ calls: node('s:m/n'), shows: 'node m/n; opens m/n' }, [
  { name: 'on a tmpfs', before: `${TMPFS} x m`, calls: node('s:m/n') },
  { name: 'on a tmpfs with nodev', before: `${TMPFS} -o nodev x m`, calls: node('s:m/n') },
  {
    name: 'on a read-only bind mount',
    before: 'mkdir m; mount --bind m m; mount -o remount,bind,ro m',
    calls: node('s:m/n'),
  },
  {
    name: 'on a read-only bind mount, where there is a file',
    before: 'mkdir m; touch m/n; mount --bind m m; mount -o remount,bind,ro m',
    calls: node('s:m/n'),
  },
  {
    name: 'on a bind mount with nodev',
    before: 'mkdir m; mount --bind m m; mount -o remount,bind,nodev m',
    calls: node('s:m/n'),
  },
  {
    name: 'on an overlay',
    before: 'mkdir l u w m; mount -t overlay -o lowerdir=l,upperdir=u,workdir=w,userxattr x m',
    calls: node('s:m/n'),
    why: 'overlay',
  },
  { name: 'in procfs', calls: node('s:/proc/n'), shows: '' },
  { name: 'in sysfs', calls: node('s:/sys/n'), shows: '', why: 'runtime' },
])

const removed: readonly Case[] = [
  { name: 'a node is removed', calls: steps(node('s:n'), `unlinkat ${AT_FDCWD} s:n 0`), shows: 'ls' },
  {
    name: 'a node is removed on a tmpfs',
    before: `${TMPFS} x m`,
    calls: steps(node('s:m/n'), `unlinkat ${AT_FDCWD} s:m/n 0`, 'umount2 s:m 0'),
    shows: 'ls m',
  },
]

const old = (cases: readonly Case[]): readonly Case[] =>
  cases.map((one) => ({ ...one, calls: one.calls.replaceAll(`mknodat ${AT_FDCWD} `, 'mknod ') }))

export const mknod: readonly Family[] = [
  { name: 'mknod', cases: old([...devices, ...arguments_, ...paths]) },
  { name: 'mknodat', cases: [...directories, ...modes, ...callers, ...mounts, ...removed] },
]
