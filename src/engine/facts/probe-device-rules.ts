import { existsSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Mode, PathBytes, TypedDev } from '../../abi/brand.ts'
import { O_DIRECTORY, O_PATH } from '../../abi/fcntl.ts'
import { major, minor, plainDev, S_IFBLK, typeOfDev } from '../../abi/stat.ts'
import type { DeviceRules } from '../../calls/caller.ts'
import { Fd } from '../../kernel/fd.ts'
import { mknodat, openat, openNothing } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { detachedTmpfs } from '../../kernel/mount.ts'
import type { Child } from '../../processes/child.ts'
import { LIMITER, type SpawnGuard } from '../helpers/spawn-guard.ts'

/** What control groups allow, by device. */
export type FoundRules = ReadonlyMap<TypedDev, DeviceRules>

/** The descriptor by which the probe finds its directory. */
const PLACE = 3
const READ_AND_WRITE = 0o666
const OPTIONS = [['size', '256k']] as const
/** The file that is copied after all nodes. */
const END = 'end'
/**
 * How many levels below the root of its hierarchy a group may be. Each look at a group costs the kernel time for every
 * level of its path. A container can make 2,000 levels; containers in containers have twenty.
 */
const DEEPEST = 128

/**
 * The program of the probe. Only the kernel can tell what is allowed: the rules are a program of cgroup v2 that it runs
 * for a process of the group. So a process joins the groups and tries. It starts no other process, because the group
 * may allow none. cp(1) makes all nodes that are allowed; that of uutils would copy what they contain, and where it is
 * in place, GNU's has another name.
 *
 *   its directory is a file system of its own that is mounted nowhere: `join` has the files by which groups are joined,
 *   a line each, for their names are bytes, and no name of a group has a line feed; `have` has a node of each device,
 *   `made` gets those that can be made and last the file `end`, `open` a file for each that can be opened, and `full`
 *   one for each that can be opened to read and to write
 */
const PROBE = `cd /proc/self/fd/${PLACE} || exit
while IFS= read -r file; do echo 0 >"$file" || exit; done <join
cd have || exit
for node in *; do
  if [ -r "$node" ] || [ -w "$node" ]; then : >"../open/$node"; fi
  if [ -r "$node" ] && [ -w "$node" ]; then : >"../full/$node"; fi
done
cp=cp; if command -v gnucp; then cp=gnucp; fi
exec "$cp" -R -- * ../${END} ../made`
/** A container can stop the probe for long. So the probe ends with the engine that started it. */
const COMMAND = [LIMITER, '--pdeathsig', 'KILL', 'sh', '-c', PROBE] as const

/**
 * A process in a container's control groups that tries what their device rules allow. It joins them by itself, when it
 * has its own memory: the kernel kills whoever shares memory with a process that a group has no more memory for
 * (linux/mm/oom_kill.c __oom_kill_process()), and a process that clone3(2) starts inside a group shares ours until it
 * executes its program. Joining takes the kernel 8 to 12 ms (linux/kernel/cgroup/cgroup.c cgroup_attach_lock()), but
 * only the thread that needs the answer waits for that.
 *
 * Invariant: the main thread alone uses it.
 */
export class DeviceProbe implements Disposable {
  readonly #place: Fd
  readonly #devices: readonly TypedDev[]
  readonly #child: Child

  /**
   * @param groups their directories
   * @param own the directories of our own groups
   * @throws {SyscallError} if there is no memory, descriptor or process for it
   * @throws {RangeError} if a group is too deep
   */
  constructor(guard: SpawnGuard, groups: readonly string[], own: readonly string[], devices: readonly TypedDev[]) {
    if (groups.some(isTooDeep)) throw new RangeError(`Cannot join a group more than ${DEEPEST} levels deep`)
    const joined = groups.filter((group) => !own.includes(group))
    using nothing = openNothing()
    using place = placeWith(joined, devices)
    const { PATH = '' } = process.env
    this.#child = guard.start(COMMAND, { fds: [nothing, nothing, nothing, place], env: { PATH } })
    this.#devices = devices
    this.#place = new Fd(place.release())
  }

  /** Waits until it has ended, for at most `ms` milliseconds. @returns whether it has */
  async endsWithin(ms: number): Promise<boolean> {
    const patience = new AbortController()
    const late = sleep(ms, false, { signal: patience.signal }).catch(() => false)
    const hasEnded = await Promise.race([this.#child.ended.then(() => true), late])
    patience.abort()
    return hasEnded
  }

  /**
   * @returns undefined if the probe did not complete (it could not join a group, or was killed) or has no cp(1) that
   *          copies nodes
   */
  get found(): FoundRules | undefined {
    const inside = (name: string): readonly string[] => readdirSync(pathIn(this.#place, name))
    const [made, open, full] = [inside('made'), inside('open'), inside('full')]
    const isNode = (name: string): boolean => {
      const node = lstatSync(pathIn(this.#place, `made/${name}`))
      return name.startsWith('b') ? node.isBlockDevice() : node.isCharacterDevice()
    }
    if (!made.includes(END) || !made.every((name) => name === END || isNode(name))) return undefined
    const rulesOf = (name: string): DeviceRules => ({
      ...{ mknod: made.includes(name), open: open.includes(name), full: full.includes(name) },
    })
    return new Map(this.#devices.map((dev) => [dev, rulesOf(nameOf(dev))]))
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL')
    this.#place[Symbol.dispose]()
  }
}

const isTooDeep = (group: string): boolean => group.split('/').length > DEEPEST
/** A group of cgroup v1, which a process of one thread joins by a file that does not make the kernel wait. */
const isLegacy = (group: string): boolean => existsSync(bytes(`${group}/tasks`))
const joinFile = (group: string): string => `${group}/${isLegacy(group) ? 'tasks' : 'cgroup.procs'}\n`
const bytes = (text: string): Buffer => Buffer.from(text, 'latin1')
/** No name begins like that of a line of a script, or like an option. */
function nameOf(typed: TypedDev): string {
  const dev = plainDev(typed)
  return `${typeOfDev(typed) === S_IFBLK ? 'b' : 'c'}${major(dev)}:${minor(dev)}`
}
const pathIn = (place: Fd, name: string): string => `/proc/self/fd/${place.raw}/${name}`

/** A file system for one probe: it disappears with its last descriptor. */
function placeWith(groups: readonly string[], devices: readonly TypedDev[]): Fd {
  using place = detachedTmpfs(OPTIONS)
  for (const name of ['have', 'made', 'open', 'full']) mkdirSync(pathIn(place, name))
  writeFileSync(pathIn(place, 'join'), bytes(groups.map(joinFile).join('')))
  writeFileSync(pathIn(place, END), '')
  using have = openat(place.raw, cstring('have'), O_PATH | O_DIRECTORY)
  for (const typed of devices) {
    const mode = (typeOfDev(typed) | READ_AND_WRITE) as Mode
    mknodat(have, cstring(nameOf(typed)) as PathBytes, mode, plainDev(typed))
  }
  return new Fd(place.release())
}
