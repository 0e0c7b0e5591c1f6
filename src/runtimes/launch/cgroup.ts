import { mkdirSync, readdirSync, readFileSync, rmdirSync, statfsSync, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { barOpening } from '../../abi/bpf.ts'
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from '../../abi/fcntl.ts'
import { PROC_PID_INIT_INO } from '../../abi/process.ts'
import { CGROUP2_SUPER_MAGIC } from '../../abi/stat.ts'
import { attachDeviceProgram } from '../../kernel/bpf.ts'
import { parseCgroups } from '../../kernel/cgroup.ts'
import { orElse } from '../../kernel/error.ts'
import { type Fd, lockFile } from '../../kernel/fd.ts'
import { openat } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { mount } from '../../kernel/mount.ts'
import { startTime } from '../../kernel/process.ts'
import { parseMountinfo } from '../../kernel/procfs/mountinfo.ts'
import { opensHost } from '../../policy/devices.ts'
import { sleepSync } from '../../shared/words.ts'
import { CGROUP_ROOT, graft, layout, openDirectory } from './tree.ts'

/** The cgroup, in each hierarchy, of all containers of `run`. */
export const FAMILY = 'intercede'

/**
 * The directories that hold the cgroups of `run`: in the unified hierarchy, and in v1's memory controller if the host
 * uses it.
 */
interface Hierarchies {
  readonly unified: string
  readonly memory: string | undefined
}

/**
 * Mounts a pure cgroup v2 tree at /sys/fs/cgroup, as runtimes need it, in our private mount namespace. On a hybrid
 * machine the memory controller is in v1: it is mounted elsewhere, and only if the host uses it already.
 */
export function openHierarchies(): Hierarchies {
  const unified = `${CGROUP_ROOT}/${FAMILY}`
  if (isPure()) return { unified, memory: undefined }
  const own = parseCgroups(readFileSync('/proc/self/cgroup', 'utf8'))
  const memory = own.some(({ controllers }) => controllers.join() === 'memory') ? layout.memory : undefined
  if (memory) {
    mkdirSync(memory)
    mount('cgroup', memory, 0n, 'memory')
  }
  mountUnified()
  return { unified, memory: memory && `${memory}/${FAMILY}` }
}

const isPure = (): boolean => orElse(false, () => statfsSync(CGROUP_ROOT).type === CGROUP2_SUPER_MAGIC)

/** Returns where the host has the whole tree of v2, to be written to. */
const unifiedOfHost = (): string | undefined =>
  parseMountinfo(readFileSync('/proc/thread-self/mountinfo', 'utf8')).find(
    ({ type, root, options }) => type === 'cgroup2' && root === '/' && options.includes('rw'),
  )?.point

/** Shows what the host has mounted already: the kernel waits for all processors in each mount(2) of cgroup2. */
function mountUnified(): void {
  try {
    const there = unifiedOfHost()
    if (there === undefined) {
      mount('cgroup2', CGROUP_ROOT, 0n)
      return
    }
    using target = openDirectory(CGROUP_ROOT)
    graft(there, target)
  } catch (error) {
    throw new Error(
      `Cannot limit devices: this kernel gives no cgroup v2 at ${CGROUP_ROOT} (${(error as Error).message})`,
    )
  }
}

/**
 * Returns who sets the limit of `--memory`: the runtime (cgroup v2) or we (v1).
 *
 * @throws {Error} if neither hierarchy has a memory controller
 */
function memoryController({ memory }: Hierarchies): 'runtime' | 'v1' {
  if (readFileSync(`${CGROUP_ROOT}/cgroup.controllers`, 'utf8').split(/\s+/).includes('memory')) return 'runtime'
  if (memory) return 'v1'
  throw new Error(
    'Cannot limit memory: no cgroup hierarchy has the memory controller; leave out --memory, or remove cgroup_disable=memory from the kernel command line; with cgroup v1, mount the controller',
  )
}

/** What follows the names of runs in our pid namespace, except the host's: pids are not unique otherwise. */
export function pidsSuffix(): string {
  const { ino } = statSync('/proc/self/ns/pid')
  return ino === PROC_PID_INIT_INO ? '' : `-${ino}`
}

/** Returns a cgroup name that identifies this process, so that the next run can tell whether it still lives. */
const ownName = (): string => `${process.pid}-${startTime('self')}${pidsSuffix()}`

/**
 * Returns the cgroup for the runtime. It is below ours, so that the runtime cannot replace the device program of
 * ours.
 */
export const cgroupsPath = (name: string): string => `/${FAMILY}/${name}/container`

/** The cgroup of the runtime itself, in ours. */
const RUNTIME = 'runtime'

/** Makes a cgroup, with several attempts, since another run may remove the empty parent in between. */
function makeCgroup(path: string): string {
  for (let attempt = 0; ; attempt++) {
    try {
      mkdirSync(path, { recursive: true })
      return path
    } catch (error) {
      if (attempt === 10)
        throw new Error(
          `Cannot make a control group for the container: ${(error as Error).message}; run it as root of the host (see intercede doctor)`,
        )
    }
  }
}

const openGroup = (path: string): Fd => openat(AT_FDCWD, cstring(path), O_RDONLY | O_DIRECTORY)

/** How often to try to lock a cgroup, and how long another run may have it locked meanwhile, in milliseconds. */
const LOCK = { tries: 20, pause: 5 }

/**
 * Makes the cgroup of this run, and locks it until this process ends: a run in another pid namespace does not see the
 * process. If that run has locked it first, it removes the cgroup. Users of the host can lock it too; then it is used
 * without a lock.
 */
function makeOwn(path: string): Fd {
  for (let attempt = 0; attempt < LOCK.tries; attempt++) {
    makeCgroup(path)
    const group = orElse(undefined, () => openGroup(path))
    if (group && lockFile(group) && exists(path)) return group
    group?.[Symbol.dispose]()
    sleepSync(LOCK.pause)
  }
  return openGroup(makeCgroup(path))
}

/** Kills all processes of a cgroup v2 and its descendants. */
function killCgroup(path: string): void {
  // The cgroup has been removed already.
  orElse(undefined, () => writeFileSync(`${path}/cgroup.kill`, '1'))
}

/** How long the end of what was killed may take: of a container of ours, and of what another run has left. */
const [PATIENCE_MS, LEFTOVER_MS] = [3000, 100]

type Say = (text: string) => void

const exists = (path: string): boolean => statSync(path, { throwIfNoEntry: false }) !== undefined

function removeOnce(path: string): void {
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) removeOnce(`${path}/${entry.name}`)
  }
  rmdirSync(path)
}

/**
 * Removes a cgroup and its descendants, with some patience, since the kernel releases killed processes a little later.
 *
 * @param say is told of one that stays
 */
function removeCgroup(path: string, patienceMs: number, say: Say): void {
  const end = Date.now() + patienceMs
  while (exists(path) && Date.now() < end) {
    try {
      removeOnce(path)
    } catch {
      sleepSync(5)
    }
  }
  if (exists(path)) say(`the control group ${path} stays, since its processes do not end; the next run tries again`)
}

/** Removes the parent of all runs' cgroups if this was the last one. */
function removeIfEmpty(family: string): void {
  // Another run uses it, or it was not made.
  orElse(undefined, () => rmdirSync(family))
}

/**
 * Forbids the container to open the host's console: runtimes allow the number 5:1, which is a terminal in their /dev,
 * but a node of that number opens the host's console.
 */
function barHost(path: string): void {
  using group = openGroup(path)
  for (const dev of opensHost) attachDeviceProgram(group, barOpening(dev))
}

/**
 * Limits of the cgroups that a container may make below its own: the depth is still a path that can be named, and the
 * number can be removed within a moment.
 */
const DEPTH = '12'
const DESCENDANTS = '1000'

function boundTree(path: string): void {
  writeFileSync(`${path}/cgroup.max.depth`, DEPTH)
  writeFileSync(`${path}/cgroup.max.descendants`, DESCENDANTS)
}

/**
 * Enables the controllers that runtimes enable, from the root on down to a cgroup. While no process is below, the
 * kernel need not wait for all processors, which takes 10 ms (linux/kernel/cgroup/cgroup.c cgroup_update_dfl_csses()).
 */
function enableControllers(path: string): void {
  const names = readFileSync(`${CGROUP_ROOT}/cgroup.controllers`, 'utf8').split(/\s+/).filter(Boolean)
  const wanted = names.map((name) => `+${name}`).join(' ')
  for (const group of [CGROUP_ROOT, dirname(path), path]) {
    try {
      writeFileSync(`${group}/cgroup.subtree_control`, wanted)
    } catch {
      // The runtime finds out which of them can be enabled.
      return
    }
  }
}

/** Lets nothing beyond the limit go to swap, if this kernel counts that. Precondition: the limit of v1 is set. */
function barSwap(own: string, limited: string | undefined, memory: number): void {
  // The limit of v1 is that of memory and swap together.
  const [file, value] =
    limited === undefined ? [`${own}/memory.swap.max`, 0] : [`${limited}/memory.memsw.limit_in_bytes`, memory]
  if (exists(file)) writeFileSync(file, String(value))
}

/** Where the cgroups of one container are to be. */
interface CgroupPlace {
  readonly name: string
  /** The cgroups above them, one in each hierarchy in use, that of v2 first. */
  readonly families: readonly string[]
  readonly paths: readonly string[]
  /** The memory limit in bytes that the runtime shall set. */
  readonly runtimeMemory: number | undefined
}

/** Plans the cgroups of this process. @throws {Error} if no hierarchy can limit memory to `memory` bytes */
export function placeCgroup(hierarchies: Hierarchies, memory: number | undefined): CgroupPlace {
  const by = memory === undefined ? undefined : memoryController(hierarchies)
  const families = by === 'v1' ? [hierarchies.unified, hierarchies.memory!] : [hierarchies.unified]
  const name = ownName()
  const paths = families.map((family) => `${family}/${name}`)
  return { name, families, paths, runtimeMemory: by === 'runtime' ? memory : undefined }
}

/**
 * The cgroups of one container, one in each hierarchy in use. They are killed and removed at the end, however it
 * comes.
 */
export class Cgroup implements Disposable {
  readonly name: string
  /** The memory limit in bytes that the runtime shall set. */
  readonly runtimeMemory: number | undefined
  /** The cgroup of the runtime, beside the container's, so that both are killed at once. */
  readonly beside: string
  /** The cgroup of v1's memory controller that the runtime must join before it is executed, if there is one. */
  readonly limited: readonly string[]
  /** The cgroups of this run, the one of v2 first. */
  readonly paths: readonly string[]
  readonly #families: readonly string[]
  readonly #lock: Fd
  readonly #say: Say

  /**
   * @param memory the limit in bytes
   * @param say is told of what stays at the end
   * @throws {Error} if they cannot be made
   */
  constructor({ name, families, paths, runtimeMemory }: CgroupPlace, memory: number | undefined, say: Say) {
    this.name = name
    this.runtimeMemory = runtimeMemory
    this.#families = families
    this.#say = say
    this.#lock = makeOwn(paths[0]!)
    this.paths = paths.map(makeCgroup)
    const [own, limited] = this.paths
    barHost(own!)
    boundTree(own!)
    enableControllers(own!)
    this.beside = makeCgroup(`${own}/${RUNTIME}`)
    this.limited = limited === undefined ? [] : [limited]
    if (limited !== undefined) writeFileSync(`${limited}/memory.limit_in_bytes`, String(memory))
    if (memory !== undefined) barSwap(own!, limited, memory)
  }

  /** Kills the runtime and all processes of the container. */
  kill(): void {
    killCgroup(this.paths[0]!)
  }

  /** Lets the runtime and all processes of the container rest, whatever they do about signals, or go on. */
  freeze(rests: boolean): void {
    writeFileSync(`${this.paths[0]}/cgroup.freeze`, rests ? '1' : '0')
  }

  [Symbol.dispose](): void {
    this.kill()
    this.#lock[Symbol.dispose]()
    for (const path of this.paths) removeCgroup(path, PATIENCE_MS, this.#say)
    for (const family of this.#families) removeIfEmpty(family)
  }
}

/**
 * Tells whether the run that made a cgroup has ended, or is in another pid namespace: then its lock tells. The name is
 * `PID-STARTTIME` of the run, see `ownName`.
 */
export function isLeftover(
  name: string,
  startTimeOf: (pid: number) => number | undefined = startTime,
  ours: string = pidsSuffix(),
): boolean {
  const [, pid, started, suffix = ''] = /^(\d+)-(\d+)(-\d+)?$/.exec(name) ?? []
  return pid !== undefined && (suffix !== ours || startTimeOf(Number(pid)) !== Number(started))
}

const namesIn = (family: string): string[] =>
  orElse([], () =>
    readdirSync(family, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : [])),
  )

/**
 * Kills and removes the cgroups of runs that were killed themselves; only their containers can outlive them.
 *
 * @param say is told of those that stay
 */
export function removeLeftovers({ unified, memory }: Hierarchies, say: Say): void {
  const families = memory ? [unified, memory] : [unified]
  const names = [...new Set(families.flatMap(namesIn))].filter((name) => isLeftover(name))
  for (const name of names) {
    using group = orElse(undefined, () => openGroup(`${unified}/${name}`))
    if (group && !lockFile(group)) continue
    killCgroup(`${unified}/${name}`)
    for (const family of families) removeCgroup(`${family}/${name}`, LEFTOVER_MS, say)
  }
}
