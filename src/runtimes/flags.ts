import { join } from 'node:path'
import type { Dev } from '../abi/brand.ts'
import type { Cap } from '../abi/credentials.ts'
import type { Target } from '../filter/target.ts'
import { PREFIX } from '../policy/key.ts'

/** What a container must have for its keys to work, independent of a runtime's syntax. */
export interface Wanted {
  readonly caps: readonly Cap[]
  /** The path of the profile that `intercede profile` writes. */
  readonly profile: string
  /** The lines of the metadata, for a runtime whose profile cannot hold them. */
  readonly metadata: readonly string[]
  /** True if it is made from keys alone: no profile of the configuration, no other trap, the usual socket and base. */
  readonly onlyKeys: boolean
  /** Annotations, by which the container's author extends the administrator's file. */
  readonly annotations: readonly (readonly [key: string, value: string])[]
  /** The first host id of the container, for runtimes that do not choose it themselves. */
  readonly firstId: number
  /**
   * True if the machine already gives containers of this runtime user namespaces; only podman and Docker must be set
   * up.
   */
  readonly prepared: boolean
  /** True for a container of an unprivileged user, which shares the user namespace of the user's daemon. */
  readonly user: boolean
  /** True if the container needs /dev/fuse. */
  readonly fuse: boolean
  /** Files of lxcfs, if sysinfo(2) is served. */
  readonly files: readonly FileBind[]
  /** Listed devices that the container may make. */
  readonly devices: readonly Dev[]
  /** True if podman starts containers by a runc that refuses the flags of the profile. */
  readonly byRunc: boolean
  /** Set if the container makes nodes, and podman mounts its root nodev. */
  readonly nodev?: NodevStorage | undefined
  /** The daemon's socket if it is not the default; OCI runtimes read it from the profile. */
  readonly listener?: string | undefined
}

/** Storage options of podman that mount the root of containers nodev. */
export interface NodevStorage {
  /** The other mount options. */
  readonly without: string
  /** Whether there is no other storage option. */
  readonly isAlone: boolean
}

/** A file of the host that a container sees in place of another. */
export interface FileBind {
  readonly source: string
  readonly target: string
}

/** The files of lxcfs that programs read beside sysinfo(2): `free`, `top`, `uptime`, `nproc`. runc allows no others. */
const LXCFS_FILES = [
  ...['cpuinfo', 'diskstats', 'loadavg', 'meminfo', 'stat', 'swaps', 'uptime'].map((name) => `/proc/${name}`),
  '/sys/devices/system/cpu/online',
]

/**
 * Returns the files with which lxcfs shows a container itself instead of the machine; undefined if it is not mounted.
 * Only root's counts: with fusermount3(1) any user may mount a file system of this name.
 *
 * @param mounts the text of /proc/self/mounts
 */
export function lxcfsFiles(mounts: string): readonly FileBind[] | undefined {
  const [, point] = /^\S+ (\/[^\s\\]*) fuse\.lxcfs (?!\S*\buser_id=[1-9])/m.exec(mounts) ?? []
  return point === undefined ? undefined : LXCFS_FILES.map((target) => ({ source: `${point}${target}`, target }))
}

interface Flags {
  /** Options, one per line, or the lines of a file. */
  readonly lines: readonly string[]
  /** Requirements that these lines cannot express. */
  readonly besides: readonly string[]
  /** What else could be of use to somebody who reads the lines: not said in `$(...)`, at each start of a container. */
  readonly advice?: readonly string[]
}

/** What `intercede flags` prints for one runtime. */
export interface Instructions {
  /** The reader of the profile; undefined if the profile is an LXC policy. */
  readonly target: Target | undefined
  /** Whether the output stands in `$(...)` on a command line, or is lines of a file. */
  readonly prints: 'options' | 'lines'
  /** The usual directory of profiles. */
  readonly directory: string
  /**
   * The ending of profile names. Each runtime in a directory has its own, since their profiles differ in filters and
   * flags.
   */
  readonly ending: string
  /** True for a runtime that takes `firstId`: others choose the ids of a container themselves. */
  readonly takesFirstId?: true
  /** False for a runtime whose containers have no annotations. */
  readonly annotates?: false
  /** False for a runtime for whose containers mount.fuse is not served. */
  readonly mountsFuse?: false
  /** The filter that the runtime uses by default, if `--base` can name it: a file, or an engine. */
  readonly base?: string
  /** The name of that filter, if it is not the runtime's own. */
  readonly filter?: string
  /** True if the profile is for other machines, where something else than `intercede flags` writes it. */
  readonly elsewhere?: boolean
  /** The names of profiles that are there by themselves, by their keys. */
  readonly written?: ReadonlyMap<string, string>
  /** What these files must contain for containers to have user namespaces. */
  readonly prepared?: readonly (readonly [file: string, text: RegExp])[]
  /** Returns the directory of a user's profiles. Absent for a runtime whose rootless containers are not served. */
  userDirectory?(): string
  flags(wanted: Wanted): Flags
}

/** What `intercede flags NAME` tells. */
export interface Instructed {
  readonly name: string
  readonly instructions: Instructions
}

/** Number of ids of a container: all 16-bit ids, with nobody (65534). */
export const ID_COUNT = 65_536

/** Returns keys as they are written by hand, such as `mknod` for `security.syscalls.intercept.mknod=true`. */
export const inShort = (keys: readonly string[]): string =>
  keys.map((key) => key.replace(PREFIX, '').replace(/=true$/, '')).join(' ')

export const options = (name: string, values: readonly string[]): readonly string[] =>
  values.map((value) => `--${name}=${value}`)

/** The files as podman, Docker and compose name them. */
export const volumes = ({ files }: Wanted): readonly string[] =>
  files.map(({ source, target }) => `${source}:${target}:ro`)

export const annotationsOf = ({ annotations }: Wanted): readonly string[] =>
  annotations.map(([key, value]) => `${key}=${value}`)

/** Formats a text as JSON, which is YAML too; the quotes keep "true" a text. */
export const yamlText = (text: string): string => JSON.stringify(text)

export const fuseDevice = ({ fuse }: Wanted): readonly string[] => (fuse ? ['--device=/dev/fuse'] : [])

/** The options that podman, buildah and Docker have in common, except for annotations. */
export const dockerOptions = (wanted: Wanted): readonly string[] => [
  ...options('cap-add', wanted.caps),
  ...fuseDevice(wanted),
  ...options('volume', volumes(wanted)),
  `--security-opt=seccomp=${wanted.profile}`,
]

/**
 * Returns the directory of a user's profiles and configuration. The user's containers and daemon share the user
 * namespace that podman made.
 */
export const userDirectory = (): string => ofUser(process.env.XDG_CONFIG_HOME, '.config')

/** Returns the directory for what outlives a user's daemon: what systemd gives a service of the user, too. */
export const userState = (): string => ofUser(process.env.XDG_STATE_HOME, '.local/state')

const ofUser = (given: string | undefined, usual: string): string =>
  join(given?.startsWith('/') ? given : join(process.env.HOME ?? '/', usual), 'intercede')
