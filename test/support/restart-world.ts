// A load of calls of all kinds, and what ends engines under it: for tests that no call is lost or done twice.

import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Policy } from '../../src/policy/policy.ts'
import { Group, withoutCgroups } from './bpf-world.ts'
import { fixture } from './fixtures.ts'
import { attributesBelow, BASE, devicePrograms, type Host, mknodPolicy, USERNS, until } from './host.ts'
import { JournalView } from './journal-view.ts'
import { lacksFileSystem } from './skipped.ts'
import { stateOf } from './stat.ts'

const PROCESSES = 8
const MOUNTED = 'hugetlbfs'
export const cannotMount = lacksFileSystem(MOUNTED)
/** Others may work on the machine too. */
const START_S = 60
/** What this machine lets a container do. */
const CAN = {
  mount: cannotMount === undefined,
  bpf: withoutCgroups() === undefined,
}
export const policy: Policy = {
  ...mknodPolicy,
  setxattr: { allowed: new Set<string>(), read: true },
  schedSetscheduler: { maxPriority: 10, minNice: 0, ioprio: false },
  sysinfo: {},
  bpf: devicePrograms,
  mount: { allowed: new Set([MOUNTED]), fuse: new Map(), shift: false, nodev: true },
}

/** Everything that the load makes calls of. */
export const KEYS = {
  mknod: true,
  setxattr: true,
  'setxattr.read': true,
  sched_setscheduler: true,
  'sched_setscheduler.max_priority': 10,
  sysinfo: true,
  ...(CAN.mount ? { mount: true, 'mount.allowed': MOUNTED } : {}),
  bpf: true,
  'bpf.devices': true,
}

/** The same for a container that brings its own policy. */
export const metadata = Object.entries(KEYS)
  .map(([key, value]) => `security.syscalls.intercept.${key}=${value}`)
  .join('\n')

export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds))

export interface Said {
  readonly calls: number
  readonly acts: number
  readonly longestMs: number
  /** Which call that was. */
  readonly longest: string
  readonly nodes: number
  readonly attributes: number
  readonly mounts: number
  /** How often one could be unmounted only somewhat later. */
  readonly busy: number
  readonly failures: Record<string, number>
}

type Agent = Pick<Host, 'directory' | 'socket'>

interface Ways {
  /** A command that becomes the container. */
  readonly within?: readonly string[]
  /** May it have a cgroup of its own, which it takes for bpf? */
  readonly hasGroups?: boolean
  readonly metadata?: string
  /** Without what takes several calls. */
  readonly isSingle?: boolean
  readonly processes?: number
}

/** Processes of a container that make calls of all kinds, each in a directory of its own; see the fixture's top. */
export class Load {
  readonly directory: string
  readonly #child: ChildProcess
  readonly #group: Group | undefined
  #said = ''
  /** It has ended, and all that it said is here. */
  #isOver = false

  constructor(
    { directory, socket }: Agent,
    name: string,
    { within = [], hasGroups = CAN.bpf, metadata = '', isSingle = false, processes = PROCESSES }: Ways = {},
  ) {
    this.directory = join(directory, name)
    const places = Array.from({ length: processes }, (_, number) => join(this.directory, String(number)))
    for (const place of [this.directory, ...places]) {
      mkdirSync(place)
      chownSync(place, BASE, BASE)
    }
    this.#group = hasGroups ? new Group().delegate() : undefined
    const traps = ['--mounts', '--bpf', '--sched', '--xattr', '--all-sysinfo']
    const place = this.#group ? ['--cgroup', this.#group.path] : []
    const said = ['--metadata', metadata, '--id', name]
    const container = [socket, '--userns', USERNS, '--pidns', ...traps, ...place, ...said, '--await-agent', '--']
    const kinds = [
      ...(CAN.mount ? ['--mount', MOUNTED] : []),
      ...(this.#group ? ['--bpf', this.#group.path] : []),
      ...(isSingle ? ['--single'] : []),
    ]
    const load = ['unshare', '--mount', fixture('restart-load'), this.directory, String(processes), ...kinds]
    const [program, ...args] = [...within, fixture('filtered'), ...container, ...load]
    this.#child = spawn(program!, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child.on('close', () => (this.#isOver = true))
    this.#child.stdout!.on('data', (chunk: Buffer) => (this.#said += chunk.toString()))
  }

  /** Lets the calls that are in flight end. */
  async end(): Promise<Said> {
    this.#child.stdin!.end()
    await until('every call has returned', () => this.#isOver, START_S)
    return JSON.parse(this.#said) as Said
  }

  /** Stops all of it wherever it is for a while; only where it has a group. @returns whether all of it stood still then */
  async freeze(milliseconds: number): Promise<boolean> {
    const { path } = this.#group!
    writeFileSync(`${path}/cgroup.freeze`, '1')
    await sleep(milliseconds)
    const stoodStill = readFileSync(`${path}/cgroup.events`, 'utf8').includes('frozen 1')
    writeFileSync(`${path}/cgroup.freeze`, '0')
    return stoodStill
  }

  /** Ends it, whatever it does. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#group?.remove()
  }

  /** What is there, whatever anybody said. */
  async onDisk(): Promise<{ readonly nodes: number; readonly attributes: number }> {
    const all = readdirSync(this.directory, { recursive: true, withFileTypes: true })
    const nodes = all.filter((each) => each.isCharacterDevice()).length
    return { nodes, attributes: await attributesBelow(this.directory) }
  }
}

/** Ends engines, each with a call in the state that is wanted, as far as one can be met. */
export class Killer {
  readonly #host: Host
  readonly #journal = new JournalView()
  /** In which states the ended engines left calls. */
  readonly met: Record<string, number> = {}
  /** What was in flight when the last one had ended. */
  left: readonly string[] = []
  kills = 0
  #served = 0

  constructor(host: Host) {
    this.#host = host
  }

  async kill(wanted: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#served = this.#host.restarts
    const pid = this.#host.enginePid
    await this.#catch(pid, wanted)
    this.kills++
    process.kill(pid, signal)
    process.kill(pid, 'SIGCONT')
    await until('the engine is dead', () => 'ZX'.includes(stateOf(pid)), START_S)
    // The next one cannot have come so far yet.
    this.left = this.#journal.states()
    for (const state of new Set(this.left)) this.met[state] = (this.met[state] ?? 0) + 1
    await until(
      'the next engine is there',
      () => {
        const next = this.#host.maybeEnginePid
        return next !== undefined && next !== pid
      },
      START_S,
    )
  }

  /** Until the engine that came after the last one serves. */
  untilServed(): Promise<void> {
    return until('the engine serves', () => this.kills === 0 || this.#host.restarts > this.#served, START_S)
  }

  /** Stops the engine again and again, until a call is in that state; a stopped engine is as good as a killed one. */
  async #catch(pid: number, wanted: string): Promise<void> {
    for (let tries = 0; tries < 100; tries++) {
      process.kill(pid, 'SIGSTOP')
      while (stateOf(pid) === 'R') await sleep(0)
      if (this.#journal.states().includes(wanted)) return
      process.kill(pid, 'SIGCONT')
      await sleep(1)
    }
  }
}

/** States in which a call can be caught; `waiting`, in which nothing is received yet, cannot: receiving does not wait. */
export const STATES = ['receiving', 'received', 'acting', 'acted'] as const
