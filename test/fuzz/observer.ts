import { lstatSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Mount, parseMountinfo } from '../../src/kernel/procfs/mountinfo.ts'
import { fixture } from '../support/fixtures.ts'
import { until } from '../support/host.ts'
import { statFields } from '../support/stat.ts'
import { CapabilitySets, type Declarations } from './capability-sets.ts'
import { descriptors } from './descriptors.ts'
import { lines } from './lines.ts'
import { MARK, MARKED } from './mark.ts'
import { family, isContained, isEngine, isOfHost, link, list, processes, read } from './processes.ts'
import { hostPoints, Strays } from './strays.ts'

/** Where other tests and container engines mount. */
const LINGER_S = 10
const OTHERS = [`${tmpdir()}/`, '/var/tmp/', '/run/', '/var/lib/']
/** Engines of other tests set the priority of their threads, and programs of tests may be scheduled by them. */
const isOthers = (pid: string): boolean =>
  /engine\/main|intercede-fixtures|^(chrt|sleep)\0/.test(read(`/proc/${pid}/cmdline`))

/** How a thread of the engine may be scheduled: above max_priority of the attack's policy, or as usual while it may take long. */
const LANES = /^nice 0, (priority 11, policy 2|priority 0, policy 0)$/

interface Thread {
  readonly name: string
  /** The nice value, the real-time priority and the policy. */
  readonly scheduling: string
}

/** A process of the host. */
interface Limited {
  readonly name: string
  /** As /proc/PID/limits has them. */
  readonly limits: string
}

/** What must stay as it is, whatever a container does. */
interface World {
  readonly mounts: ReadonlyMap<string, string>
  readonly groups: ReadonlyMap<string, string>
  readonly threads: ReadonlyMap<string, Thread>
  readonly processes: ReadonlyMap<string, Limited>
  readonly outside: readonly string[]
  readonly loops: readonly string[]
}

/** What an attack has, and where. */
export interface Scene {
  /** The directory of the attack. */
  readonly ours: string
  /** A directory in it that the container does not have: nothing at all may change there. */
  readonly outside: string
  /** A directory in it where the host mounts and unmounts meanwhile. */
  readonly mounts: string
  /** Directories in which the container may make what it likes. */
  readonly own: readonly string[]
  /** Root directories of others. */
  readonly others: readonly string[]
  /** The process that started the container. */
  readonly keeper: number
  readonly declared: Declarations
}

/**
 * Looks at the host while a container attacks it, for what no container may change. Other tests may run beside: what is in
 * the temporary directory or in cgroups of this project is theirs, unless it bears the mark of the attack.
 */
export class Observer {
  readonly #scene: Scene
  readonly #keeper: number
  readonly #before: World
  readonly #nodes: readonly string[]
  readonly #strays: Strays
  readonly #sets: CapabilitySets
  readonly #began = Date.now() / 1000
  readonly findings = new Set<string>()

  constructor(scene: Scene) {
    this.#scene = scene
    this.#keeper = scene.keeper
    this.#strays = new Strays(scene.own, scene.others)
    this.#sets = new CapabilitySets(scene.keeper, scene.declared)
    this.#before = this.#look()
    this.#nodes = this.#deviceNodes()
  }

  /** What can be seen in a moment; called again and again. */
  check(): void {
    const now = this.#look()
    const { mounts, groups, threads, outside, loops, processes } = this.#before
    for (const [id, line] of mounts) if (now.mounts.get(id) !== line) this.note('a mount of the host changed', line)
    for (const [id, line] of now.mounts) if (!mounts.has(id)) this.note('a mount came to the host', line)
    for (const [path, owner] of now.groups)
      if ((groups.get(path) ?? owner) !== owner) this.note('a cgroup changed', `${path}: ${groups.get(path)}, ${owner}`)
    for (const path of now.groups.keys())
      if (path.includes(MARKED) && !this.#isOwnGroup(path)) this.note('a cgroup was made', path)
    for (const [id, { name, scheduling }] of threads) {
      const then = now.threads.get(id)?.scheduling
      if (then !== undefined && then !== scheduling)
        this.note('a thread of the host was scheduled', `${id} ${name}: ${scheduling} became ${then}`)
    }
    for (const [id, { name, limits }] of processes)
      if ((now.processes.get(id)?.limits || limits) !== limits)
        this.note('the limits of a process of the host changed', `${id} ${name}`)
    if (now.outside.join() !== outside.join()) this.note('outside of the container', difference(outside, now.outside))
    if (now.loops.join() !== loops.join()) this.note('loop devices', difference(loops, now.loops))
    for (const path of this.#strays.look()) this.note('made outside of the container', path)
    for (const line of this.#sets.look()) this.note('capability sets', line)
    this.#checkInside()
    for (const line of this.#programs()) if (line.startsWith('attached')) this.note('a program of the container', line)
  }

  /** What takes longer; once, after the container has ended. */
  async checkAll(): Promise<void> {
    // The kernel lets go of what a process had a while after it has ended.
    await until('no program is left', () => this.#programs().length === 0, LINGER_S).catch(() => {})
    for (const line of this.#programs()) this.note('a program of the container', line)
    for (const path of this.#strays.lookAll()) this.note('made outside of the container', path)
    const nodes = this.#deviceNodes()
    if (nodes.join() !== this.#nodes.join()) this.note('device nodes', difference(this.#nodes, nodes))
    const attributes = this.#changedWithAttributes()
    if (attributes.length > 0) this.note('attributes', attributes.join(' '))
  }

  /** The container's processes, each with what it may not have. */
  #checkInside(): void {
    const members = family(this.#keeper)
    // What mounts for the container, and a runtime that starts a program in it, are in its mount namespace for a while.
    const home = members.filter((pid) => pid === String(this.#keeper) || isEngine(pid))
    const ids = ['1', ...home].flatMap((pid) => parseMountinfo(read(`/proc/${pid}/mountinfo`)).map(({ id }) => id))
    for (const line of descriptors(members.filter(isContained), new Set(ids))) this.note('a descriptor inside', line)
    for (const pid of members.filter(isContained))
      if (isOfHost(pid)) this.note('a process inside has the user namespace of the host', read(`/proc/${pid}/comm`))
  }

  #programs(): string[] {
    const groups = [...this.#groupOwners().keys()].filter((path) => !this.#isOwnGroup(path))
    return lines(fixture('host-programs'), [`${MARK}`, ...groups])
  }

  #look(): World {
    return {
      mounts: new Map(this.#mounts().map((mount) => [String(mount.id), JSON.stringify(mount)])),
      groups: new Map(
        [...this.#groupOwners()].filter(([path]) => !path.includes('intercede') || path.includes(MARKED)),
      ),
      threads: this.#threads(),
      processes: this.#limited(),
      outside: this.#tree(this.#scene.outside),
      loops: this.#loops(),
    }
  }

  #mounts(): Mount[] {
    const { ours, mounts } = this.#scene
    const isOfOthers = ({ point }: Mount): boolean =>
      point.startsWith(mounts) || (OTHERS.some((path) => point.startsWith(path)) && !point.startsWith(ours))
    return parseMountinfo(read('/proc/self/mountinfo')).filter((mount) => !isOfOthers(mount))
  }

  /** All directories of all hierarchies, with their owners. */
  #groupOwners(): Map<string, string> {
    const roots = parseMountinfo(read('/proc/self/mountinfo')).filter(({ type }) => type.startsWith('cgroup'))
    const found = lines('find', [...roots.map(({ point }) => point), '-type', 'd', '-printf', '%p %u:%g:%m\\n'])
    return new Map(found.map((line) => line.split(' ') as [string, string]))
  }

  /** `run` names the cgroup by the number of its process. */
  #isOwnGroup(path: string): boolean {
    return path.includes(`/intercede/${this.#keeper}-`)
  }

  /** The processes of the host, and of Intercede. */
  #ofHost(): string[] {
    const own = new Set(family(this.#keeper))
    return processes().filter((each) => isOfHost(each) && (own.has(each) || !isOthers(each)))
  }

  #limited(): Map<string, Limited> {
    const found = this.#ofHost().map((pid): [string, Limited] => [
      `${pid}@${statFields(`/proc/${pid}/stat`)[19]}`,
      { name: read(`/proc/${pid}/comm`).trim(), limits: read(`/proc/${pid}/limits`) },
    ])
    return new Map(found)
  }

  #threads(): Map<string, Thread> {
    const found = new Map<string, Thread>()
    for (const pid of this.#ofHost()) {
      for (const tid of list(`/proc/${pid}/task`)) {
        const stat = statFields(`/proc/${pid}/task/${tid}/stat`)
        if (stat.length < 40) continue
        const seen = `nice ${stat[16]}, priority ${stat[37]}, policy ${stat[38]}`
        const scheduling = isEngine(pid) && LANES.test(seen) ? 'in one of its lanes' : seen
        found.set(`${pid}/${tid}@${stat[19]}`, { name: read(`/proc/${pid}/task/${tid}/comm`).trim(), scheduling })
      }
    }
    return found
  }

  /** Whatever is done to a file changes the time of its inode. */
  #tree(path: string): string[] {
    const { mode, uid, gid, rdev, size, ctimeNs } = lstatSync(path, { bigint: true })
    const own = [path, mode.toString(8), uid, gid, rdev, size, ctimeNs].join(' ')
    if ((mode & 0o170000n) !== 0o040000n) return [own]
    return [
      own,
      ...readdirSync(path)
        .sort()
        .flatMap((name) => this.#tree(join(path, name))),
    ]
  }

  #loops(): string[] {
    const files = list('/sys/block').map((name) => `${name} ${read(`/sys/block/${name}/loop/backing_file`).trim()}`)
    return files.filter((line) => line.includes(this.#scene.ours))
  }

  /** Where the file systems of the host are, without the temporary directory but for what is ours. */
  #search(...tests: readonly string[]): string[] {
    const others = [`${tmpdir()}/*`, '/dev/loop*', '/dev/shm/intercede-*']
      .flatMap((path) => ['-o', '-path', path])
      .slice(1)
    return lines('find', [...hostPoints(), '-xdev', '(', ...others, ')', '-prune', '-o', ...tests])
  }

  #deviceNodes(): string[] {
    return this.#search(
      '(',
      '-type',
      'c',
      '-o',
      '-type',
      'b',
      ')',
      '-exec',
      'stat',
      '-c',
      '%n %t:%T %a %u:%g',
      '{}',
      '+',
    ).sort()
  }

  /** Those of the inodes that changed since the beginning that have an attribute which only root of the host can set. */
  #changedWithAttributes(): string[] {
    const show = ['getfattr', '--no-dereference', '--absolute-names', '--match', '^trusted[.]overlay']
    return this.#search('-newerct', `@${this.#began}`, '-exec', ...show, '{}', '+')
  }

  /** Whose capability sets were to be looked at, and nobody was there. */
  get unseen(): readonly string[] {
    return [...this.#scene.declared.keys()].filter((kind) => !this.#sets.seen.has(kind))
  }

  /** Takes away what was made outside. */
  tidy(): void {
    this.#strays.remove()
  }

  note(what: string, detail: string): void {
    if (this.findings.size < 50) this.findings.add(`${what}: ${detail}`)
  }
}

function difference(before: readonly string[], after: readonly string[]): string {
  const gone = before.filter((line) => !after.includes(line))
  const come = after.filter((line) => !before.includes(line))
  return `gone: ${gone.slice(0, 5).join('; ')} new: ${come.slice(0, 5).join('; ')}`
}

/** What a process of the host has open, counted by kind: what is left over has no name of its own. */
export function openOf(pid: number): Map<string, number> {
  const kinds = list(`/proc/${pid}/fd`).map((fd) => link(`/proc/${pid}/fd/${fd}`).replace(/\d+/g, 'N'))
  const counts = new Map<string, number>()
  // One that was closed since it was listed has none.
  for (const kind of kinds.filter(Boolean)) counts.set(kind, (counts.get(kind) ?? 0) + 1)
  return counts
}
