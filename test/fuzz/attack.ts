import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { syscallName } from '../../src/abi/syscalls.ts'
import { readRange } from '../../src/runtimes/launch/ids.ts'
import { fixture } from '../fixtures.ts'
import { Images } from '../images.ts'
import { until } from '../kernel/host.ts'
import { MARK, Observer, openOf } from './observer.ts'
import { family, isEngine, list, read } from './processes.ts'

const KEYS = [
  'mknod',
  'setxattr',
  'setxattr.read',
  'sched_setscheduler',
  'sched_setscheduler.max_priority=10',
  'sysinfo',
]
const PROCESSES = 5
const LOOK_MS = 1500
/** Whoever waits for a call that does not return is told after this. */
const LATE_S = 100

/**
 * A FUSE program that cannot mount what was mutated says so; the runtime that starts it may be ended with its caller, before
 * it has said anything; and calls may come faster than they are counted.
 */
const EXPECTED = / failed in the container: |the client said nothing$|, too many to keep count of$/

/** What the hostile program says at its end. */
interface Said {
  readonly kinds: Readonly<Record<string, Readonly<Record<string, number>>>>
  readonly hung: number
  readonly compat: number
  readonly killed: number
  readonly reused: number
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
}

export interface AttackOptions {
  readonly seed: number
  /** runc knows no flag with which a signal leaves a call alone that is being served. */
  readonly runtime: 'crun' | 'runc'
  readonly seconds: number
}

/** What the container sees of the host, and what lies beside it. */
class Ground {
  readonly top = mkdtempSync(join(tmpdir(), 'intercede-fuzz-'))
  readonly inside = join(this.top, 'in')
  readonly outside = join(this.top, 'out')
  readonly programs = join(this.top, 'programs')
  readonly images = new Images()
  readonly ext4: string
  readonly squashfs: string
  readonly ext2: string

  constructor() {
    const { uid, gid } = readRange()
    for (const path of [this.inside, this.outside, this.programs]) mkdirSync(path)
    chmodSync(this.top, 0o755)
    chownSync(this.inside, uid, gid)
    for (const name of ['', 'a', 'b', 'a/b']) this.#expose(name, (path) => mkdirSync(path, { recursive: true }), 0o777)
    for (const name of ['f0', 'a/f0', 'a/f2', 'a/b/f1']) this.#expose(name, (path) => writeFileSync(path, name), 0o666)
    symlinkSync('/', join(this.outside, 'l'))
    copyFileSync(fixture('fuzz-calls', ['-static']), join(this.programs, 'fuzz-calls'))
    this.ext4 = this.images.device('ext4')
    this.squashfs = this.images.device('squashfs')
    this.ext2 = this.images.device('ext2')
  }

  /** Whoever gets there could do what he likes: but no path of the container leads there. */
  #expose(name: string, make: (path: string) => void, mode: number): void {
    const { uid, gid } = readRange()
    const path = join(this.outside, name)
    make(path)
    chownSync(path, uid, gid)
    chmodSync(path, mode)
  }

  remove(): void {
    this.images[Symbol.dispose]()
    rmSync(this.top, { recursive: true, force: true })
  }
}

/** A container of `intercede run` with all keys, which attacks the host for a while. */
class Attack {
  readonly #child: ChildProcess
  #output = ''
  #kinds: readonly (readonly [string, number])[] = []
  readonly complaints: string[] = []

  constructor({ inside, outside, programs, ext4, squashfs, ext2 }: Ground, { seed, seconds, runtime }: AttackOptions) {
    const mounts = ['mount', 'mount.allowed=ext4,squashfs,hugetlbfs', 'mount.fuse=ext2=fuse2fs', 'bpf', 'bpf.devices']
    const sources = ['--device', ext4, 'ext4', '--device', squashfs, 'squashfs', '--device', 'none', 'hugetlbfs']
    const options = {
      runtime,
      config: [...KEYS, ...mounts],
      binds: [`${inside}:/in`, `${programs}:/programs:ro`],
      devices: [ext4, squashfs, ext2],
      command: [
        ...['/programs/fuzz-calls', `${seed}`, `${seconds}`, `${PROCESSES}`, outside, `${MARK}`],
        ...[...sources, '--fuse', ext2, 'ext2', '/in', '/tmp', '/dev/shm'],
      ],
    }
    const script = new URL('./contained.js', import.meta.url).pathname
    this.#child = spawn(process.execPath, [script, JSON.stringify(options)], {
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

const isHelper = (pid: string): boolean => /(walker|mounter)-main/.test(read(`/proc/${pid}/cmdline`))

const footprint = (pid: number): Footprint => ({
  open: openOf(pid),
  threads: list(`/proc/${pid}/task`).length,
  helpers: family(pid).filter(isHelper).length,
})

/** The walker of the container, and one mounter that waits for the next mount. */
const HELPERS = 2

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

/** Lets a hostile container make calls for some seconds, and tells what came of it. */
export async function attack(options: AttackOptions): Promise<Outcome> {
  const ground = new Ground()
  const under = new Attack(ground, options)
  try {
    await under.said(0)
    const observer = new Observer(ground.top, ground.outside, under.pid)
    const engine = under.enginePid
    const before = footprint(engine)
    under.begin()
    const looking = setInterval(() => observer.check(), LOOK_MS)
    try {
      await until('the attack is over', () => under.isOver, options.seconds).catch(() => {})
      await under.said(1)
    } finally {
      clearInterval(looking)
    }
    observer.check()
    const left = await leftOver(before, engine)
    await under.end()
    observer.checkAll()
    const { result: said, noted, complaints } = under
    return { seed: options.seed, said, noted, findings: [...observer.findings], complaints, left }
  } finally {
    await under.end().catch(() => {})
    ground.remove()
  }
}

/** After a while, for what is let go slowly. */
async function leftOver(before: Footprint, engine: number): Promise<string[]> {
  await until('the engine is as before', () => more(before, footprint(engine)).length === 0, 10).catch(() => {})
  return more(before, footprint(engine))
}
