import type { Cap } from '../../abi/credentials.ts'
import { type FileBind, ID_COUNT } from '../flags.ts'
import type { IdRange } from './ids.ts'

export interface DeviceRule {
  readonly allow: boolean
  readonly access: string
  readonly type?: 'c' | 'b'
  readonly major?: number
  readonly minor?: number
}

export interface ConsoleSize {
  readonly height: number
  readonly width: number
}

export interface ContainerSpec {
  readonly name: string
  readonly args: readonly string[]
  readonly env: readonly string[]
  readonly cwd: string
  readonly user: { readonly uid: number; readonly gid: number }
  readonly terminal: boolean
  /** The terminal's size from the beginning, since the command may read it at once. */
  readonly consoleSize?: ConsoleSize | undefined
  readonly root: string
  readonly ids: IdRange
  readonly caps: readonly Cap[]
  readonly net: 'none' | 'host'
  /** Whether the command is systemd, see `SYSTEMD`. */
  readonly systemd: boolean
  readonly cgroupsPath: string
  readonly files: readonly FileBind[]
  readonly devices: readonly DeviceRule[]
  /** The memory limit in bytes; undefined if it is set elsewhere, or not at all. */
  readonly memory: number | undefined
  /** How many files a process may open, if it raises its own limit. */
  readonly openFiles: number
  /** An OCI `linux.seccomp` object. */
  readonly seccomp: object | undefined
}

const character = (major: number, minor?: number): DeviceRule => ({
  allow: true,
  type: 'c',
  major,
  ...(minor === undefined ? {} : { minor }),
  access: 'rwm',
})

/** podman's device rules: only harmless devices may be opened; any node may be made, if the kernel or we allow it. */
const DEVICE_RULES: readonly DeviceRule[] = [
  { allow: false, access: 'rwm' },
  { allow: true, type: 'c', access: 'm' },
  { allow: true, type: 'b', access: 'm' },
  ...[3, 5, 7, 8, 9].map((minor) => character(1, minor)), // null, zero, full, random, urandom
  // tty and ptmx; the console (5:1) is missing, since its driver opens the host's console, but its node may be made.
  ...[0, 2].map((minor) => character(5, minor)),
  character(136), // pts
]

interface OciMount {
  readonly destination: string
  readonly type: string
  readonly source: string
  readonly options?: readonly string[]
}

const NOTHING_EXTRA = ['nosuid', 'noexec', 'nodev']

/**
 * Returns the mount of /sys: sysfs can be mounted only in a network namespace that the container's user namespace
 * owns.
 */
const sysfs = (net: 'none' | 'host'): OciMount =>
  net === 'host'
    ? { destination: '/sys', type: 'none', source: '/sys', options: ['rbind', ...NOTHING_EXTRA, 'rro'] }
    : { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...NOTHING_EXTRA, 'ro'] }

const volatile = (destination: string, mode: string): OciMount => ({
  ...{ destination, type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', `mode=${mode}`] },
})

/** What systemd expects besides a control group that it may write to: https://systemd.io/CONTAINER_INTERFACE */
const SYSTEMD: readonly OciMount[] = [volatile('/run', '755'), volatile('/run/lock', '1777'), volatile('/tmp', '1777')]

/**
 * Returns the mounts that the runtime makes. /dev and /dev/shm are in the root already, on a file system of the host,
 * so that device nodes on it can be opened.
 */
const mounts = (net: 'none' | 'host', systemd: boolean): readonly OciMount[] => [
  { destination: '/proc', type: 'proc', source: 'proc' },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: NOTHING_EXTRA },
  sysfs(net),
  {
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    options: [...NOTHING_EXTRA, 'relatime', systemd ? 'rw' : 'ro'],
  },
  ...(systemd ? SYSTEMD : []),
]

const bound = ({ source, target }: FileBind): OciMount => ({
  destination: target,
  type: 'bind',
  source,
  options: ['bind', 'ro', ...NOTHING_EXTRA],
})

/** Returns where the runtime mounts, over whatever is there in the root. */
export const hiddenPoints = (systemd: boolean): readonly string[] =>
  mounts('none', systemd).map(({ destination }) => destination)

const NAMESPACES = ['user', 'pid', 'mount', 'ipc', 'uts', 'cgroup']

const MASKED = [
  '/proc/acpi',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/sys/dev/block',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
]
const READONLY = ['/proc/asound', '/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

/** How many files a process may open at first: more harms programs that use select(2), or close them all. */
const OPEN_FILES = 1024

function processOf({ args, env, cwd, user, terminal, consoleSize, caps, openFiles }: ContainerSpec): object {
  const names = caps.map((cap) => `CAP_${cap}`)
  return {
    terminal,
    ...(consoleSize ? { consoleSize } : {}),
    user,
    args,
    env,
    cwd,
    capabilities: { bounding: names, effective: names, permitted: names },
    rlimits: [{ type: 'RLIMIT_NOFILE', soft: Math.min(OPEN_FILES, openFiles), hard: openFiles }],
    noNewPrivileges: false,
  }
}

const mapping = (hostID: number): object[] => [{ containerID: 0, hostID, size: ID_COUNT }]

/** Returns the `config.json` of the container. The function is pure, so that its result can be printed and tested. */
export function ociConfig(spec: ContainerSpec): object {
  const { name, root, ids, net, systemd, cgroupsPath, files, devices, memory, seccomp } = spec
  const namespaces = [...NAMESPACES, ...(net === 'none' ? ['network'] : [])]
  return {
    ociVersion: '1.0.2',
    process: processOf(spec),
    root: { path: root },
    hostname: name,
    mounts: [...mounts(net, systemd), ...files.map(bound)],
    linux: {
      uidMappings: mapping(ids.uid),
      gidMappings: mapping(ids.gid),
      namespaces: namespaces.map((type) => ({ type })),
      cgroupsPath,
      resources: {
        devices: [...DEVICE_RULES, ...devices],
        ...(memory === undefined ? {} : { memory: { limit: memory } }),
      },
      maskedPaths: MASKED,
      readonlyPaths: READONLY,
      ...(seccomp === undefined ? {} : { seccomp }),
    },
  }
}
