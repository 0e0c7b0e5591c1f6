import { execFileSync } from 'node:child_process'
import { truncateSync, writeFileSync } from 'node:fs'

export const diskTypes = ['ext4', 'xfs', 'btrfs'] as const
export type DiskType = (typeof diskTypes)[number]

/** Programs that must be installed. */
export const mkfsPrograms = diskTypes.map((type) => `mkfs.${type}`)

/** The least that mkfs.xfs takes; the file is sparse. */
const SIZE = 320 * 1024 * 1024
const MOUNT = 'mount -o loop "$1" "$2" && shift 2 && exec "$@"'

/** Makes a file with a file system in it. */
export function makeImage(type: DiskType, path: string): void {
  writeFileSync(path, '')
  truncateSync(path, SIZE)
  execFileSync(`mkfs.${type}`, ['-q', path], { stdio: ['ignore', 'ignore', 'pipe'] })
}

/**
 * Puts before a command that it sees the file system of `image` on `path`, in a mount namespace of its own: however it
 * ends, the mount and its loop device are gone with it.
 */
export const withImage = (image: string, path: string, command: readonly string[]): readonly string[] => [
  ...['unshare', '--mount', '--propagation', 'private', 'sh', '-c', MOUNT, 'sh', image, path],
  ...command,
]
