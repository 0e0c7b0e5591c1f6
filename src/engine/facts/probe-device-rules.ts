import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { Dev, Mode, PathBytes } from '../../abi/brand.ts'
import { major, minor } from '../../abi/dev.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH, O_RDWR } from '../../abi/fcntl.ts'
import { S_IFCHR } from '../../abi/stat.ts'
import { Fd } from '../../kernel/fd.ts'
import { mknodat, openat } from '../../kernel/files.ts'
import { detachedTmpfs } from '../../kernel/fs-context.ts'
import { cstring } from '../../kernel/libc.ts'
import { deviceGroups } from '../../mounter/join-cgroups.ts'
import type { GroupSpawner } from '../helpers/group-spawner.ts'
import type { Spawn } from '../helpers/spawn-guard.ts'

/** What the device rules of some control groups allow for one device. */
export interface DeviceRules {
  readonly mknod: boolean
  /** To read or to write. */
  readonly open: boolean
}

/** Control groups: the text of `/proc/TID/cgroup` of a task in them, or their directories. */
export type GroupsToJoin = string | readonly string[]

/** What control groups allow, by device. */
export type FoundRules = ReadonlyMap<Dev, DeviceRules>

/** Starts the process that tries. @param join the files by which it joins groups @param cgroup where it begins */
type Start = (place: Fd, cgroup: Fd | undefined) => Promise<'ended' | 'late' | undefined>

const PATIENCE_MS = 3000
/** The descriptor by which the probe finds its directory. */
const PLACE = 3
const NODE_MODE = (S_IFCHR | 0o666) as Mode
const OPTIONS = [['size', '256k']] as const
/** What is copied after all nodes. */
const END = 'end'

/**
 * The program of the probe. Only the kernel can tell what is allowed: the rules are a program of cgroup v2 that it runs
 * for a process of the group. So a process begins in the groups or joins them, and tries. It starts no other process:
 * the group may allow none. cp(1) makes all the nodes that it may.
 *
 *   its directory is a file system of its own that is mounted nowhere: `join` has the files by which groups are joined,
 *   a line each, for their names are bytes, and no name of a group has a line feed; `have` has a node of each device,
 *   `made` gets those that can be made and last the file `end`, `open` a file for each that can be opened
 */
const PROBE = `cd /proc/self/fd/${PLACE} || exit
while IFS= read -r file; do echo 0 >"$file" || exit; done <join
cd have || exit
for node in *; do if [ -r "$node" ] || [ -w "$node" ]; then : >"../open/$node"; fi; done
exec cp -R -- * ../${END} ../made`
const COMMAND = ['sh', '-c', PROBE] as const

/** Begins in the cgroup of v2, which takes a tenth of the time; not everywhere, and not where the group is full. */
export const beginning =
  (spawner: GroupSpawner): Start =>
  async (place, cgroup) => {
    using nothing = openat(AT_FDCWD, cstring('/dev/null'), O_RDWR)
    const { PATH = '' } = process.env
    const fds = [nothing, nothing, nothing, place]
    return await spawner.run(COMMAND, { fds, environment: [`PATH=${PATH}`], cgroup })
  }

/** Joins all groups. */
export const joining =
  (spawn: Spawn): Start =>
  (place) => {
    const [program, ...args] = COMMAND
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', 'ignore', place.raw],
      timeout: PATIENCE_MS,
      killSignal: 'SIGKILL',
      cwd: '/',
    })
    return new Promise((resolve) => {
      child.on('error', () => resolve(undefined))
      child.on('close', (status) => resolve(status === null ? 'late' : 'ended'))
    })
  }

/**
 * Tries what control groups allow.
 *
 * @param groups directories
 * @param begins whether `start` lets the process begin in the cgroup of v2
 * @returns `late` if it took too long, as in a frozen group; undefined if it cannot be found out: the host lacks
 *   memory, or the group has no room for a process
 */
export async function tryDevices(
  { start, begins }: { readonly start: Start; readonly begins: boolean },
  groups: readonly string[],
  devices: readonly Dev[],
): Promise<FoundRules | 'late' | undefined> {
  const own = deviceGroups(readFileSync('/proc/self/cgroup', 'latin1'))
  const others = groups.filter((group) => !own.includes(group))
  const unified = begins ? others.find((group) => !isLegacy(group)) : undefined
  const joined = others.filter((group) => group !== unified)
  using cgroup = unified === undefined ? undefined : openat(AT_FDCWD, bytes(`${unified}\0`), O_PATH | O_DIRECTORY)
  using place = placeWith(joined, devices)
  const how = await start(place, cgroup)
  return how === 'ended' ? foundIn(place, devices) : how
}

/** A group of cgroup v1, which a process of one thread joins by a file that does not make the kernel wait. */
const isLegacy = (group: string): boolean => existsSync(bytes(`${group}/tasks`))
const joinFile = (group: string): string => `${group}/${isLegacy(group) ? 'tasks' : 'cgroup.procs'}\n`
const bytes = (text: string): Buffer => Buffer.from(text, 'latin1')
const nameOf = (dev: Dev): string => `${major(dev)}:${minor(dev)}`
const inside = (place: Fd, name: string): string => `/proc/self/fd/${place.raw}/${name}`

/** A file system for one probe: it goes with its last descriptor. */
function placeWith(groups: readonly string[], devices: readonly Dev[]): Fd {
  using place = detachedTmpfs(OPTIONS)
  for (const name of ['have', 'made', 'open']) mkdirSync(inside(place, name))
  writeFileSync(inside(place, 'join'), bytes(groups.map(joinFile).join('')))
  writeFileSync(inside(place, END), '')
  using have = openat(place.raw, cstring('have'), O_PATH | O_DIRECTORY)
  for (const dev of devices) mknodat(have, cstring(nameOf(dev)) as PathBytes, NODE_MODE, dev)
  return new Fd(place.release())
}

/** @returns undefined if it did not get to the end: it could not join a group, or was killed */
function foundIn(place: Fd, devices: readonly Dev[]): FoundRules | undefined {
  const [made, open] = [readdirSync(inside(place, 'made')), readdirSync(inside(place, 'open'))]
  if (!made.includes(END)) return undefined
  const rulesOf = (name: string): DeviceRules => ({ mknod: made.includes(name), open: open.includes(name) })
  return new Map(devices.map((dev) => [dev, rulesOf(nameOf(dev))]))
}
