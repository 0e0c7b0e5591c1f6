import { capMask } from '../../src/abi/credentials.ts'
import { BASE } from '../support/host.ts'

/** Users and groups of the scenes: three of the container, a group that two share, and the host's root. */
export const ids = { root: 0, user: 1000, other: 1001, shared: 5000 } as const
export type Inside = keyof typeof ids
export type Who = Inside | 'host'

export const hostId = (who: Who): number => (who === 'host' ? 0 : BASE + ids[who])

/** What a disk holds that an idmapped mount shows with 0 as the container's root; `host` stays outside of the map. */
export const diskId = (who: Who): number => (who === 'host' ? 100_000 : ids[who])

export type AccessAcl = 'letsUser' | 'letsShared' | 'barsUser'
export type DefaultAcl = 'wide' | 'narrow' | 'named'

export interface Directory {
  readonly user: Who
  readonly group: Who
  readonly mode: number
  readonly access?: AccessAcl | undefined
  readonly defaults?: DefaultAcl | undefined
  readonly immutable?: boolean | undefined
}

export const bindKinds = ['readOnly', 'noDevices', 'shift', 'narrow'] as const
export const tmpfsKinds = ['tmpfs', 'tmpfsReadOnly', 'full'] as const
export type MountKind = (typeof bindKinds)[number] | (typeof tmpfsKinds)[number]

/** Where a path starts; each but the plain ones is a way by which a process names a directory that it stands in or holds. */
export const starts = [
  'relative',
  'absolute',
  'dirfd',
  'absoluteDespiteDirfd',
  'badDirfd',
  'fileDirfd',
  'chroot',
  'chrootRelative',
  'chrootFromOutside',
  'chrootUp',
  'procSelfCwd',
  'procSelfRoot',
  'threadSelfCwd',
  'threadSelfRoot',
  'procTaskCwd',
  'procPidCwd',
  'procPidRoot',
  'procPidFd',
  'devFd',
  'procSelfFd',
  'threadSelfFd',
  'procSelfFdOfFile',
  'procDirfd',
  'cwdInProc',
  'procLink',
  'inProc',
  'inSys',
] as const
type Start = (typeof starts)[number]

/** How a path goes on to the directory of the node. */
export const ways = [
  'plain',
  'dots',
  'dotDots',
  'slashes',
  'linkRelative',
  'linkAbsolute',
  'linkInside',
  'linkChain',
  'linkLoop',
  'linkDangling',
  'linkToFile',
  'linkProcCwd',
  'linkProcRoot',
  'missing',
  'file',
  'longComponent',
] as const
type Way = (typeof ways)[number]

export const targets = ['file', 'dir', 'fifo', 'sock', 'chr', 'blk', 'linkDangling', 'linkToDir', 'linkToFile'] as const
export type Target = (typeof targets)[number]

/** How a path ends. */
export type Last =
  | { readonly kind: 'name'; readonly bytes: readonly number[] }
  | { readonly kind: 'there' | 'thereSlash'; readonly target: Target }
  | { readonly kind: 'slash' | 'slashes' | 'dot' | 'dotDot' | 'nothing' | 'name255' | 'name256' }

export const capSets = {
  all: (1n << 41n) - 1n,
  mknod: capMask('MKNOD'),
  admin: capMask('SYS_ADMIN'),
  adminOverride: capMask('SYS_ADMIN', 'DAC_OVERRIDE'),
  adminSearch: capMask('SYS_ADMIN', 'DAC_READ_SEARCH'),
  allButAdmin: ((1n << 41n) - 1n) & ~capMask('SYS_ADMIN'),
  none: 0n,
  mknodOverride: capMask('MKNOD', 'DAC_OVERRIDE'),
  mknodSearch: capMask('MKNOD', 'DAC_READ_SEARCH'),
  mknodFsetid: capMask('MKNOD', 'FSETID'),
  allButMknod: ((1n << 41n) - 1n) & ~capMask('MKNOD'),
} as const
export type CapSet = keyof typeof capSets

export interface Credentials {
  readonly uid: Inside
  readonly gid: Inside
  readonly groups: readonly Inside[]
  readonly caps: CapSet
  readonly umask: number
}

/** Everything around a call that names a path; a later call adds only its own arguments. */
export interface Scene {
  readonly fileSystem: 'memory' | 'disk' | 'overlay'
  /** A chain, each in the one before. Together with `at` they say where a path starts and where it leads. */
  readonly directories: readonly Directory[]
  readonly mount?: { readonly kind: MountKind; readonly over: number } | undefined
  readonly start: Start
  /** How many directories of the chain lie before the start. */
  readonly at: number
  readonly way: Way
  readonly links: number
  readonly last: Last
  /** The length that the path is brought to, 0: as it is. */
  readonly length: number
  readonly pointer: 'good' | 'null' | 'unmapped' | 'edge' | 'cross'
  readonly caller: Credentials
}

/** The mount that a scene really has: overlay mounts cannot be idmapped, and here none has a tmpfs on it. */
export function mountOf({ fileSystem, mount, directories }: Scene): { kind: MountKind; over: number } | undefined {
  if (!mount) return undefined
  const possible = fileSystem !== 'overlay' || mount.kind === 'readOnly' || mount.kind === 'noDevices'
  return possible ? { kind: mount.kind, over: mount.over % directories.length } : undefined
}

/** Is the directory of this number in an idmapped mount, where the disk holds other ids? */
export function idmapped(scene: Scene, index: number): boolean {
  const mount = mountOf(scene)
  return (mount?.kind === 'shift' || mount?.kind === 'narrow') && index >= mount.over
}

/** Capabilities over files, which count only over inodes whose owner and group are mapped. */
export const OVER_FILES = capMask('DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FSETID')
export const overFiles = ({ caps }: Credentials): boolean => (capSets[caps] & OVER_FILES) !== 0n
export const mayAdmin = ({ caps }: Credentials): boolean => (capSets[caps] & capMask('SYS_ADMIN')) !== 0n
export const mayMknod = ({ caps }: Credentials): boolean => (capSets[caps] & capMask('MKNOD')) !== 0n

/** Does the path lead through a link of procfs? */
export const throughProcfs = ({ start, way }: Scene): boolean =>
  /proc|thread|devFd/i.test(start) || way.startsWith('linkProc')
