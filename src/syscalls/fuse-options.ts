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

/** Flags of mount(2) that FUSE programs know as options; other flags have no meaning for them. */
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

/**
 * Options for the access rules of a file system that the kernel mounts: every user may enter, and the modes of files
 * decide.
 */
const LIKE_KERNEL = ['allow_other', 'default_permissions']

/** Returns what a FUSE program gets after `-o`. @param data the options of mount(2), unchanged */
export function fuseOptions(flags: bigint, data = ''): string {
  const flagOptions = FLAGS.filter(([flag]) => (flags & flag) !== 0n).map(([, option]) => option)
  return [...flagOptions, ...LIKE_KERNEL, ...(data === '' ? [] : [data])].join(',')
}

/** Returns a path that a program cannot take for an option. */
export const asOperand = (path: string): string => (path.startsWith('-') ? `./${path}` : path)
