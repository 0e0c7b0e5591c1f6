// A container that serves its own file system and lets calls hang there: for tests of stuck threads.

import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fixture } from './fixtures.ts'
import { BASE, execute, USERNS, until } from './host.ts'
import { stateOf, threadStateOf } from './stat.ts'

/** Calls in which a thread of the engine may wait for something of a container, by their numbers in /proc/TID/syscall. */
const WAITS: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  x64: {
    7: 'poll',
    18: 'pwrite64',
    138: 'fstatfs',
    188: 'setxattr',
    257: 'openat',
    259: 'mknodat',
    310: 'process_vm_readv',
    332: 'statx',
    437: 'openat2',
  },
  arm64: {
    5: 'setxattr',
    33: 'mknodat',
    44: 'fstatfs',
    56: 'openat',
    68: 'pwrite64',
    73: 'poll',
    270: 'process_vm_readv',
    291: 'statx',
    437: 'openat2',
  },
}
let serial = 0

/** Why no file system can be served here, or undefined. */
export const withoutFuse = (): string | undefined =>
  readFileSync('/proc/filesystems', 'utf8').includes('\tfuse\n') ? undefined : 'the kernel has no FUSE'

/** A container that serves a file system by itself, stops doing so, and calls into it: see the fixtures' tops. */
export class Hostile {
  /** The places of its file system and of the overlay over it. */
  readonly mount: string
  readonly overlay: string
  #child: ChildProcess | undefined
  #said = ''
  #errors = ''

  /** @param directory where places are made for it */
  constructor(directory: string) {
    const place = join(directory, `hostile${serial++}`)
    this.mount = join(place, 'mount')
    this.overlay = join(place, 'overlay')
    for (const path of [place, this.mount, this.overlay]) {
      mkdirSync(path)
      chownSync(path, BASE, BASE)
    }
  }

  get merged(): string {
    return join(this.overlay, 'merged')
  }

  /**
   * @param server options of the fixture `fuse-server`
   * @param command what it becomes then; must say "started"
   * @param filtered more options of the fixture `filtered`
   * @returns once the calls are under way
   */
  async start(
    socket: string,
    server: readonly string[],
    command: readonly string[],
    filtered: readonly string[] = [],
  ): Promise<void> {
    const device = join(this.mount, '../device')
    await execute('mknod', ['-m', '666', device, 'c', '10', '229'])
    const container = [socket, '--userns', USERNS, '--pidns', '--all-sysinfo', '--xattr', '--await-agent', ...filtered]
    const serve = [fixture('fuse-server'), ...server, device, this.mount]
    const child = spawn(fixture('filtered'), [...container, '--', 'unshare', '--mount', ...serve, '--', ...command])
    child.stdout.on('data', (data) => {
      this.#said += data
    })
    child.stderr.on('data', (data) => {
      this.#errors += data
    })
    this.#child = child
    await until('the hostile container started', () => this.#said.includes('started\n') || child.exitCode !== null, 10)
    if (child.exitCode !== null) throw new Error(`The hostile container ended: ${this.#errors}`)
  }

  /**
   * Does a thread of this process wait for an answer to what the server has taken, and never gives if it is silent? No
   * signal ends that; as long as the server has not taken it, SIGKILL does.
   */
  holds(pid: number): boolean {
    const waits = threads(pid).some((tid) => callOf(pid, tid) === 'openat2' && threadStateOf(pid, tid) === 'S')
    // In this order: to ask wakes the server, and it does not sleep again before it has taken all.
    return waits && stateOf(this.#server) === 'S'
  }

  get #server(): number {
    const program = `${fixture('fuse-server')}\0`
    return descendants(this.#child!.pid!).find((pid) => readOr(`/proc/${pid}/cmdline`).startsWith(program))!
  }

  /** What calls that returned gave, in their order. */
  get returned(): readonly string[] {
    return this.#said.split('\n').slice(1, -1)
  }

  /** Kills all of it, the server too: its init alone would wait for the server's answer while it ends. */
  async end(): Promise<void> {
    const child = this.#child
    if (!child) return
    this.#child = undefined
    for (const pid of descendants(child.pid!).reverse()) kill(pid)
    await until('the hostile container ended', () => child.exitCode !== null || child.signalCode !== null, 10)
  }
}

/** One may have ended with another. */
function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function descendants(pid: number): number[] {
  const children = readOr(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number)
  return children.flatMap((child) => [child, ...descendants(child)])
}

/** In which calls the threads of a process other than its main one are, of those that can wait for a container. */
export function stuckThreads(pid: number): readonly string[] {
  return threads(pid).flatMap((tid) => (tid === pid ? [] : (callOf(pid, tid) ?? [])))
}

function callOf(pid: number, tid: number): string | undefined {
  return WAITS[process.arch]?.[Number.parseInt(readOr(`/proc/${pid}/task/${tid}/syscall`), 10)]
}

/** Threads of a process that no signal can end now. */
export const unkillable = (pid: number): number => threads(pid).filter((tid) => threadStateOf(pid, tid) === 'D').length

/** The walkers of an engine, also those that it has given up. */
export function walkersOf(enginePid: number): readonly number[] {
  return processes().filter(
    (pid) => parentOf(pid) === enginePid && /walker\/main|nsenter/.test(readOr(`/proc/${pid}/cmdline`)),
  )
}

const parentOf = (pid: number): number => Number(/\nPPid:\t(\d+)/.exec(readOr(`/proc/${pid}/status`))?.[1])

const processes = (): number[] =>
  readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0)

const threads = (pid: number): number[] =>
  existsSync(`/proc/${pid}/task`) ? readdirSync(`/proc/${pid}/task`).map(Number) : []

/** What the open descriptors of a process are. */
export const descriptorsOf = (pid: number): string[] =>
  readdirSync(`/proc/${pid}/fd`)
    .map((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`)
      } catch {
        return 'gone'
      }
    })
    .sort()

function readOr(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
