import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Policy } from '../../src/policy/policy.ts'
import { fixture } from '../fixtures.ts'
import { BASE, execute, Host, mknodPolicy, USERNS, until } from './host.ts'
import { JournalView, stateOf } from './journal-view.ts'

/** More on demand: npm run restart. */
const KILLS = Number(process.env.INTERCEDE_KILLS ?? 40)
const PROCESSES = 8
const MOUNTED = 'hugetlbfs'
const canMount = readFileSync('/proc/filesystems', 'utf8').includes(MOUNTED)
const policy: Policy = {
  ...mknodPolicy,
  setxattr: { read: true },
  schedSetscheduler: { maxPriority: 10 },
  sysinfo: {},
  mount: { allowed: new Set([MOUNTED]), fuse: new Map(), shift: false, nodev: true },
}

const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds))

interface Said {
  readonly calls: number
  readonly acts: number
  readonly longestMs: number
  readonly nodes: number
  readonly attributes: number
  readonly mounts: number
  readonly failures: Record<string, number>
}

/** Processes of a container that make calls of all kinds, each in a directory of its own; see the fixture's top. */
class Load {
  readonly directory: string
  readonly #child: ChildProcess
  #said = ''

  constructor(host: Host, name: string) {
    this.directory = join(host.directory, name)
    const places = Array.from({ length: PROCESSES }, (_, number) => join(this.directory, String(number)))
    for (const place of [this.directory, ...places]) {
      mkdirSync(place)
      chownSync(place, BASE, BASE)
    }
    const traps = ['--mounts', '--sched', '--xattr', '--all-sysinfo']
    const container = [host.socket, '--userns', USERNS, '--pidns', ...traps, '--await-agent', '--id', name, '--']
    const load = [fixture('restart-load'), this.directory, String(PROCESSES), ...(canMount ? ['--mount', MOUNTED] : [])]
    this.#child = spawn(fixture('filtered'), [...container, 'unshare', '--mount', ...load], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#child.stdout!.on('data', (chunk: Buffer) => (this.#said += chunk.toString()))
  }

  /** Lets the calls that are in flight end. */
  async end(): Promise<Said> {
    this.#child.stdin!.end()
    const ended = (): boolean => this.#child.exitCode !== null || this.#child.signalCode !== null
    await until('every call has returned', ended, 20)
    return JSON.parse(this.#said) as Said
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  /** What is there, whatever anybody said. */
  async onDisk(): Promise<{ readonly nodes: number; readonly attributes: number }> {
    const all = readdirSync(this.directory, { recursive: true, withFileTypes: true })
    const files = all.filter((each) => each.isFile()).map((each) => join(each.parentPath, each.name))
    const nodes = all.filter((each) => each.isCharacterDevice()).length
    const { stdout } = await execute('getfattr', ['-n', 'trusted.overlay.opaque', ...files])
    return { nodes, attributes: stdout.split('\n').filter((line) => line.startsWith('trusted.overlay.opaque=')).length }
  }
}

/** Ends engines, each with a call in the state that is wanted, as far as one can be met. */
class Killer {
  readonly #host: Host
  readonly #journal = new JournalView()
  /** In which states the ended engines left calls. */
  readonly met: Record<string, number> = {}
  kills = 0
  #served = 0

  constructor(host: Host) {
    this.#host = host
  }

  async kill(wanted: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#served = serves(this.#host)
    const pid = this.#host.enginePid
    await this.#catch(pid, wanted)
    this.kills++
    process.kill(pid, signal)
    process.kill(pid, 'SIGCONT')
    await until('the engine is dead', () => 'ZX'.includes(stateOf(pid)))
    // The next one cannot have come so far yet.
    for (const state of new Set(this.#journal.states())) this.met[state] = (this.met[state] ?? 0) + 1
    await until('the next engine is there', () => {
      const next = this.#host.maybeEnginePid
      return next !== undefined && next !== pid
    })
  }

  /** Until the engine that came after the last one serves. */
  untilServed(): Promise<void> {
    return until('the engine serves', () => this.kills === 0 || serves(this.#host) > this.#served)
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

const serves = (host: Host): number => host.events.filter(({ type }) => type === 'engineStarted').length

test(
  `${KILLS} times SIGKILL under load: every call returns what it must, and is done once`,
  async () => {
    const host = await Host.start(policy)
    host.mayLoseEngine = true
    const load = new Load(host, 'load')
    try {
      await until('the container is known', () => host.events.some(({ type }) => type === 'registered'))
      const killer = new Killer(host)
      const wanted = ['receiving', 'received', 'acting', 'acted', 'waiting']
      for (let kill = 0; kill < KILLS; kill++) {
        // Now and then the engine has not even started.
        if (kill % 7 !== 0) await killer.untilServed()
        await sleep(Math.random() * 100)
        await killer.kill(wanted[kill % wanted.length]!)
      }
      const said = await load.end()
      console.log(`${killer.kills} kills, calls left in the states`, killer.met, said)
      expect(said.failures).toEqual({})
      expect(said.acts).toBeGreaterThan(said.calls / 3)
      expect(await load.onDisk()).toEqual({ nodes: said.nodes, attributes: said.attributes })
      expect(host.events.filter(({ type }) => type === 'fault' || type === 'refused')).toEqual([])
      // The container is still served.
      const { result } = await host.call(['mknod', join(host.directory, 'after'), '020666', '1', '3'])
      expect(result).toBe('ok')
    } finally {
      load.kill()
      host.close()
    }
  },
  20_000 + 2000 * KILLS,
)
