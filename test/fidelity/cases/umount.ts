// umount2(2), by man-pages and fs/namespace.c path_umount().

import { AS_USER, type Case, each, type Family, steps } from '../case.ts'

const MNT = { FORCE: 1, DETACH: 2, EXPIRE: 4, NOFOLLOW: 8 } as const
const away = (flags: number, path = 's:m'): string => `umount2 ${path} ${flags}`
const ON: readonly (readonly [string, string, string])[] = [
  ['a bind mount', 'mkdir m d; touch d/f; mount --bind d m', ''],
  ['a tmpfs', 'mkdir m', 'mount s:x s:m s:tmpfs 0 null'],
  ['ext4', 'mkdir m', 'mount s:$EXT4 s:m s:ext4 0 null'],
]
const FLAGS: readonly (readonly [string, number])[] = [
  ['no flag', 0],
  ['MNT_DETACH', MNT.DETACH],
  ['MNT_FORCE', MNT.FORCE],
  ['MNT_FORCE and MNT_DETACH', MNT.FORCE | MNT.DETACH],
  ['UMOUNT_NOFOLLOW', MNT.NOFOLLOW],
]
const join = (...calls: readonly string[]): string => steps(...calls.filter((call) => call !== ''))

const kinds: readonly Case[] = ON.flatMap(([what, before, made]) => [
  ...FLAGS.map(([name, flag]) => ({
    name: `${what}, with ${name}`,
    before,
    calls: join(made, away(flag)),
    shows: 'below m',
    ...(flag & MNT.FORCE ? { why: 'superblock' as const } : {}),
  })),
  {
    name: `${what}, with MNT_EXPIRE, twice`,
    before,
    calls: join(made, away(MNT.EXPIRE), away(MNT.EXPIRE)),
    shows: 'below m',
  },
  { name: `${what}, where a file is open`, before, calls: join(made, '@openat -100 s:m 0', away(0)), shows: 'below m' },
  {
    name: `${what}, with MNT_DETACH, where a file is open`,
    before,
    calls: join(made, '@openat -100 s:m 0', away(MNT.DETACH)),
    shows: 'below m',
  },
  {
    name: `${what}, in the working directory`,
    before,
    calls: join(made, '@chdir s:m', away(0, 's:$PWD/m')),
    shows: 'below m',
  },
])

const arguments_: readonly Case[] = each({ before: 'mkdir m d; touch d/f; mount --bind d m', shows: 'below m' }, [
  { name: 'a flag that there is not', calls: away(16) },
  { name: 'MNT_EXPIRE with MNT_FORCE', calls: away(MNT.EXPIRE | MNT.FORCE), why: 'superblock' },
  { name: 'MNT_EXPIRE with MNT_DETACH', calls: away(MNT.EXPIRE | MNT.DETACH) },
  { name: 'what is not mounted', calls: away(0, 's:d') },
  { name: 'a directory of what is mounted', before: 'mkdir m d d/e; mount --bind d m', calls: away(0, 's:m/e') },
  { name: 'nothing', calls: away(0, 's:none') },
  { name: 'an empty path', calls: away(0, 's:') },
  { name: 'a null path', calls: away(0, 'null') },
  { name: 'a path at a bad address', calls: away(0, 'bad') },
  { name: 'a path of 4096 bytes', calls: away(0, 'a:4096') },
  { name: 'a loop of links', before: 'ln -s l l', calls: away(0, 's:l') },
  { name: 'by a link', before: 'mkdir m d; mount --bind d m; ln -s m l', calls: away(0, 's:l') },
  {
    name: 'by a link, with UMOUNT_NOFOLLOW',
    before: 'mkdir m d; mount --bind d m; ln -s m l',
    calls: away(MNT.NOFOLLOW, 's:l'),
  },
  { name: 'by a user', before: 'mkdir m d; mount --bind d m; chmod 755 .', calls: steps(AS_USER, away(0)) },
  {
    name: 'what has a mount below it',
    before: 'mkdir m d d/e; mount --bind d m; mount -t tmpfs x m/e',
    calls: away(0),
  },
  {
    name: 'with MNT_DETACH, what has a mount below it',
    before: 'mkdir m d d/e; mount --bind d m; mount -t tmpfs x m/e',
    calls: away(MNT.DETACH),
  },
  { name: 'what is mounted twice, once', before: 'mkdir m d; mount --bind d m; mount -t tmpfs x m', calls: away(0) },
])

export const umount: readonly Family[] = [{ name: 'umount2', cases: [...kinds, ...arguments_] }]
