import { type ChildProcess, spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { syscallName } from '../../src/abi/syscalls.ts'
import { bundled } from '../support/bundled.ts'
import { until } from '../support/host.ts'
import { declarations } from './capability-sets.ts'
import { Ground } from './ground.ts'
import { HostMounts, mountsLeft } from './host-mounts.ts'
import { MARK } from './mark.ts'
import { Neighbours } from './neighbours.ts'
import { Observer, openOf } from './observer.ts'
import { family, isContained, isEngine, list, read } from './processes.ts'

const KEYS = [
  'mknod',
  'setxattr',
  'setxattr.allowed=security.NTACL,trusted.glusterfs.*',
  'setxattr.read',
  'sched_setscheduler',
  'sched_setscheduler.max_priority=10',
  'sched_setscheduler.min_nice=-10',
  'sched_setscheduler.ioprio',
  'rlimits',
  'rlimits.allowed=core=unlimited,rss=1M,memlock=1M,locks=1048576',
  'sysinfo',
]
const PROCESSES = 5
const CONTAINED = bundled(fileURLToPath(new URL('./contained.js', import.meta.url)))
const LOOK_MS = 1500
/** Rounds of looks. */
const MOUNTS_EVERY = 2
const PATIENCE_S = 10
const ENDED = 'a mount of a container that has ended'
/** Whoever waits for a call that does not return is told after this. */
const LATE_S = 100

/**
 * A FUSE program that cannot mount what was mutated says so; the runtime that starts it may be ended with its caller, before
 * it has said anything; and calls may come faster than they are counted.
 */
const EXPECTED = / failed in the container: | connected and ended without a hand-over$|, too many to keep count of$/

/** What the hostile program says at its end. */
interface Said {
  readonly kinds: Readonly<Record<string, Readonly<Record<string, number>>>>
  readonly hung: number
  readonly compat: number
  readonly killed: number
  readonly reused: number
  /** Tasks of others that it found, those that it stopped, and paths through links of theirs. */
  readonly met: number
  readonly stopped: number
  readonly through: number
}

/** How often the engine noted this. */
export interface Noted {
  readonly syscall: string
  readonly verdict: string
  readonly errno: number
  readonly reason: string
  readonly count: number
}

export interface Outcome {
  readonly seed: number
  readonly said: Said
  readonly noted: readonly Noted[]
  /** What no container may change. */
  readonly findings: readonly string[]
  /** Faults, ended engines, and the like. */
  readonly complaints: readonly string[]
  /** What the engine has more than before, once the attack is over. */
  readonly left: readonly string[]
  /** Of containers beside, how many started, and how many programs in them. */
  readonly beside: Neighbours['counts']
  /** Whose capability sets the build does not declare, so that they were not looked at. */
  readonly unsaid: readonly string[]
  /** And whose it does, but none was there. */
  readonly unseen: readonly string[]
}

/** Whether other containers share its namespaces of users and processes. */
type WorldName = 'alone' | 'shared'

export interface AttackOptions {
  readonly seed: number
  /** runc knows no flag with which a signal leaves a call alone that is being served. */
  readonly runtime: 'crun' | 'runc'
  readonly world: WorldName
  readonly seconds: number
}

/** A container of `intercede run` with all keys, which attacks the host for a while. */
class Attack {
  readonly #child: ChildProcess
  #output = ''
  #kinds: readonly (readonly [string, number])[] = []
  readonly complaints: string[] = []

  constructor(
    { inside, outside, programs, ext4, squashfs, ext2 }: Ground,
    { seed, seconds, runtime, world }: AttackOptions,
  ) {
    const mounts = [
      'mount',
      'mount.allowed=ext4,squashfs,hugetlbfs,tmpfs',
      'mount.fuse=ext2=fuse2fs',
      'bpf',
      'bpf.devices',
    ]
    const memory = ['--device', 'none', 'hugetlbfs', '--device', 'none', 'tmpfs']
    const sources = ['--device', ext4, 'ext4', '--device', squashfs, 'squashfs', ...memory]
    const options = {
      runtime,
      config: [...KEYS, ...mounts],
      binds: [`${inside}:/in`, `${programs}:/programs:ro`],
      devices: [ext4, squashfs, ext2],
      command: [
        ...['/programs/fuzz-calls', `${seed}`, `${seconds}`, `${PROCESSES}`, outside, `${MARK}`],
        ...[...sources, '--fuse', ext2, 'ext2', ...(world === 'shared' ? ['--others'] : []), '/in', '/tmp', '/dev/shm'],
      ],
    }
    this.#child = spawn(process.execPath, [CONTAINED, JSON.stringify(options)], {
      stdio: ['pipe', 'pipe', 'pipe', 'ipc'],
    })
    this.#child.stdout!.on('data', (chunk) => {
      this.#output += chunk
    })
    this.#child.stderr!.on('data', (chunk) => this.complaints.push(`${chunk}`.trim()))
    this.#child.on('message', ({ kinds, said }: { kinds?: [string, number][]; said?: string }) => {
      if (kinds) this.#kinds = kinds
      if (said && !EXPECTED.test(said)) this.complaints.push(said)
    })
  }

  get pid(): number {
    return this.#child.pid!
  }

  /** The first process inside. */
  get init(): string {
    return family(this.pid).find(isContained)!
  }

  get enginePid(): number {
    return Number(family(this.pid).find(isEngine))
  }

  said(line: number): Promise<void> {
    const there = (): boolean => this.#output.split('\n').length > line + 1 || this.isOver
    return until(`line ${line} of the container: ${this.complaints.join('\n')}`, there, LATE_S)
  }

  get isOver(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  begin(): void {
    this.#child.stdin!.write('go\n')
  }

  get result(): Said {
    return JSON.parse(this.#output.split('\n')[1] ?? 'null') as Said
  }

  get noted(): readonly Noted[] {
    return this.#kinds.map(([kind, count]) => {
      const [arch, nr, verdict = '', errno, reason = ''] = kind.split(' ')
      return { syscall: syscallName(Number(arch), Number(nr)) ?? nr!, verdict, errno: Number(errno), reason, count }
    })
  }

  /** Lets the container end. */
  async end(): Promise<void> {
    this.#child.stdin!.end()
    await until('the container has ended', () => this.isOver, 20).finally(() => this.#child.kill('SIGKILL'))
  }
}

interface Footprint {
  readonly open: ReadonlyMap<string, number>
  readonly threads: number
  /** The processes that walk and mount for the container. */
  readonly helpers: number
}

const isHelper = (pid: string): boolean => /(walker|mounter)\/main/.test(read(`/proc/${pid}/cmdline`))

const footprint = (pid: number): Footprint => ({
  open: openOf(pid),
  threads: list(`/proc/${pid}/task`).length,
  helpers: family(pid).filter(isHelper).length,
})

/** The walker of the container, and the mounters that wait for the next mounts: two of each container of an attack. */
const HELPERS = 5

/**
 * How many more of these there may be afterwards: what each thread of the pool has, which may have grown; the file system on
 * which it makes nodes that are mounted; the last program that was closed, which is let go when the next one is loaded; and
 * the sockets and pidfds of helpers.
 */
const allowed = (before: Footprint, now: Footprint): Readonly<Record<string, number>> => {
  const grown = Math.max(0, now.threads - before.threads)
  return {
    ...{ 'anon_inode:[eventfd]': grown, 'anon_inode:[eventpoll]': grown, 'pipe:[N]': 2 * grown + 1 },
    ...{ '/': now.threads, 'anon_inode:bpf-prog': 1, 'socket:[N]': now.helpers, 'anon_inode:[pidfd]': now.helpers },
  }
}

/** What is there now and was not before, by kind. */
function more(before: Footprint, now: Footprint): string[] {
  const limits = allowed(before, now)
  const kinds = [...now.open].map(([kind, count]) => [kind, count - (before.open.get(kind) ?? 0)] as const)
  const open = kinds.filter(([kind, count]) => count > (limits[kind] ?? 0))
  const helpers = now.helpers > HELPERS ? [`${now.helpers} helpers`] : []
  return [...open.map(([kind, count]) => `${count} more of ${kind}`), ...helpers]
}

/** Looks at the host until the attack is over, while the host mounts and unmounts what is its own. */
async function watch(under: Attack, observer: Observer, mounts: HostMounts, seconds: number): Promise<void> {
  const end = Date.now() + 1000 * seconds
  for (let round = 1; !under.isOver && Date.now() < end; round++) {
    await sleep(LOOK_MS)
    observer.check()
    if (round % MOUNTS_EVERY === 0) for (const line of await mounts.cycle(under.pid)) observer.note('host', line)
  }
}

/** Lets a hostile container make calls for some seconds, and tells what came of it. */
export async function attack(options: AttackOptions): Promise<Outcome> {
  using ground = new Ground()
  using mounts = new HostMounts(ground.mounts, ground.disk)
  const { declared, unsaid } = await declarations()
  const under = new Attack(ground, options)
  let observer: Observer | undefined
  let neighbours: Neighbours | undefined
  try {
    await under.said(0)
    observer = new Observer({ ...ground.scene, keeper: under.pid, declared })
    const engine = under.enginePid
    const before = footprint(engine)
    if (options.world === 'shared') neighbours = new Neighbours({ ...options, ground, init: under.init })
    under.begin()
    await watch(under, observer, mounts, options.seconds)
    await neighbours?.stop()
    const { devices, mounts: host } = ground
    const ours = (): string[] => family(under.pid).filter((pid) => !isContained(pid))
    for (const line of await gone(() => mountsLeft([], host, ours()))) observer.note(ENDED, line)
    await under.said(1)
    observer.check()
    const left = await gone(() => more(before, footprint(engine)))
    await under.end()
    await observer.checkAll()
    for (const line of await gone(() => mountsLeft(devices, host))) observer.note(ENDED, line)
    const { result: said, noted, complaints } = under
    const beside = neighbours?.counts ?? { started: 0, executed: 0 }
    return {
      ...{ seed: options.seed, said, noted, complaints, left, beside, unsaid, unseen: observer.unseen },
      findings: [...observer.findings],
    }
  } finally {
    await neighbours?.stop()
    await under.end().catch(() => {})
    observer?.tidy()
  }
}

/** What is left a while after the containers have ended. */
async function gone(left: () => readonly string[]): Promise<readonly string[]> {
  await until('nothing is left', () => left().length === 0, PATIENCE_S).catch(() => {})
  return left()
}
