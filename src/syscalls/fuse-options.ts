import {
  MS_DIRSYNC,
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_SYNCHRONOUS,
} from '../abi/mount.ts'

/** The flags of mount(2) that FUSE programs know as options; the others mean nothing to them. */
const FLAGS: readonly (readonly [flag: bigint, option: string])[] = [
  [MS_RDONLY, 'ro'],
  [MS_NOSUID, 'nosuid'],
  [MS_NODEV, 'nodev'],
  [MS_NOEXEC, 'noexec'],
  [MS_SYNCHRONOUS, 'sync'],
  [MS_DIRSYNC, 'dirsync'],
  [MS_NOATIME, 'noatime'],
  [MS_NODIRATIME, 'nodiratime'],
]

/** As in a file system that the kernel mounts: every user may go in, and the modes of the files say who may do what. */
const LIKE_KERNEL = ['allow_other', 'default_permissions']

/** What a FUSE program gets after `-o`. @param data the options of mount(2), as they are */
export function fuseOptions(flags: bigint, data = ''): string {
  const told = FLAGS.filter(([flag]) => (flags & flag) !== 0n).map(([, option]) => option)
  return [...told, ...LIKE_KERNEL, ...(data === '' ? [] : [data])].join(',')
}

/** A path that a program does not take for an option. */
export const asOperand = (path: string): string => (path.startsWith('-') ? `./${path}` : path)
