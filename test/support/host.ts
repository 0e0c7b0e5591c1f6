// A keeper and its engine in this process, and minimal containers: the fastest way to a real engine.

import { execFile } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makedev } from '../../src/abi/stat.ts'
import type { CallRecord } from '../../src/calls/record.ts'
import type { Keeper } from '../../src/keeper/keeper.ts'
import type { KeeperEvent, KeeperOptions } from '../../src/keeper/process/events.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { BYSTANDER, Bystander, LINES } from './bystander.ts'
import { fixture } from './fixtures.ts'
import { SLOWNESS } from './slowness.ts'

/** Containers of these tests: container ids 0 to 65535 are host ids BASE and up. */
export const BASE = 200_000
export const USERNS = `${BASE}:65536`

/** Makes a directory that belongs to `owner`. @returns its path */
export function directory(path: string, owner: number, mode: number): string {
  mkdirSync(path)
  chownSync(path, owner, owner)
  chmodSync(path, mode)
  return path
}

const HARMLESS = [
  [1, 3],
  [1, 5],
  [1, 7],
  [1, 8],
  [1, 9],
  [5, 0],
  [5, 1],
] as const
export const mknodPolicy: Policy = { mknod: { devices: new Set(HARMLESS.map(([a, b]) => makedev(a, b))) } }

const NONE: ReadonlySet<string> = new Set()
/** bpf.devices alone, without BPF tokens. */
export const devicePrograms = {
  devices: true,
  delegateCmds: NONE,
  delegateMaps: NONE,
  delegateProgs: NONE,
  delegateAttachs: NONE,
} as const

export interface Done {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** A keeper with its engine, from the build, since threads cannot be started from the sources. */
export class Host {
  readonly directory: string
  readonly socket: string
  readonly lxcSocket: string
  readonly feedSocket: string
  readonly records: CallRecord[] = []
  readonly events: KeeperEvent[] = []
  /** Of a test that ends the engine; in all others its end is a failure. */
  mayLoseEngine = false
  #keeper: Keeper | undefined
  #bystander: Bystander | undefined

  private constructor() {
    this.directory = mkdtempSync(join(tmpdir(), 'intercede-test-'))
    this.socket = join(this.directory, 'agent.sock')
    this.lxcSocket = join(this.directory, 'lxc.sock')
    this.feedSocket = join(this.directory, 'feed.sock')
    chownSync(this.directory, BASE, BASE)
    chmodSync(this.directory, 0o755)
  }

  /** @param build another one, which a test has changed */
  static async start(
    policy: Policy = mknodPolicy,
    options: Partial<KeeperOptions> = {},
    build: URL = new URL('../../dist/', import.meta.url),
  ): Promise<Host> {
    const host = new Host()
    const built = new URL('index.js', build)
    const { Keeper: BuiltKeeper } = (await import(built.href)) as { Keeper: typeof Keeper }
    try {
      host.#keeper = await BuiltKeeper.start({
        socketPath: host.socket,
        lxcSocketPath: host.lxcSocket,
        feedSocketPath: host.feedSocket,
        resolve: ({ id }) => ({ policy: id === BYSTANDER ? mknodPolicy : policy, details: {} }),
        onEvent: (event) => host.#note(event),
        onRecord: (record, container) => {
          if (container !== BYSTANDER) host.records.push(record)
        },
        ...options,
      })
    } catch (error) {
      host.close()
      throw error
    }
    if (LINES !== undefined) host.#bystander = await Bystander.start(host.socket)
    return host
  }

  /** Runs a command in a minimal container, with options of the fixture `filtered` before it. */
  run(options: readonly string[], command: readonly string[]): Promise<Done> {
    return execute(fixture('filtered'), [
      this.socket,
      '--userns',
      USERNS,
      '--await-agent',
      ...options,
      '--',
      ...command,
    ])
  }

  /** One call by the fixture `caller` in a container: "ok" or the name of the errno, and the records that it left. */
  async call(
    caller: readonly string[],
    options: readonly string[] = [],
  ): Promise<{ readonly result: string; readonly records: CallRecord[] }> {
    await this.#quiet()
    const before = this.records.length
    const { stdout, stderr } = await this.run(options, [fixture('caller'), ...caller])
    await this.settle(before)
    if (stdout === '') throw new Error(`The caller said nothing: ${stderr}`)
    const said = JSON.parse(stdout) as { readonly ok?: true; readonly errno?: string }
    return { result: said.ok ? 'ok' : (said.errno ?? stdout), records: this.records.slice(before) }
  }

  /** Records are written after the answers: gives the first one a moment, then waits until no more come. */
  async settle(before: number): Promise<void> {
    await until(
      'a record',
      () => {
        this.drain()
        return this.records.length > before
      },
      0.2,
    ).catch(() => {})
    await this.#quiet()
  }

  /** Those of calls before, too: each is written after its answer. */
  async #quiet(): Promise<void> {
    for (let seen = -1; seen !== this.records.length; ) {
      this.drain()
      seen = this.records.length
      await new Promise((resolve) => setTimeout(resolve, 3))
      this.drain()
    }
  }

  drain(): void {
    this.#keeper?.drain()
  }

  #note(event: KeeperEvent): void {
    const { id } = 'handover' in event ? event.handover : { id: undefined, ...event }
    if (id === BYSTANDER) return
    this.events.push(event)
    if (event.type === 'engineEnded' && !this.mayLoseEngine) throw new Error(`The engine ${event.how}`)
  }

  /** As before it becomes another program. @returns what lets it go on when that could not be */
  async standStill(): Promise<() => void> {
    await this.#keeper!.quiesce()
    return () => this.#keeper!.resume()
  }

  /** How many engines have served after the first one. */
  get restarts(): number {
    return this.events.filter(({ type }) => type === 'engineStarted').length
  }

  /** What the service manager shows. */
  get status(): string {
    return this.#keeper!.status
  }

  /** Between two engines there is none. */
  get maybeEnginePid(): number | undefined {
    return this.#keeper?.enginePid
  }

  get enginePid(): number {
    const pid = this.maybeEnginePid
    if (pid === undefined) throw new Error('There is no engine')
    return pid
  }

  /** How many descriptors and threads the engine has, and descriptors this process. */
  get footprint(): { readonly engineFds: number; readonly engineThreads: number; readonly keeperFds: number } {
    const pid = this.enginePid
    return {
      engineFds: readdirSync(`/proc/${pid}/fd`).length,
      engineThreads: readdirSync(`/proc/${pid}/task`).length,
      keeperFds: readdirSync('/proc/self/fd').length,
    }
  }

  close(): void {
    this.#bystander?.end(this.restarts)
    this.#keeper?.close()
    rmSync(this.directory, { recursive: true, force: true })
  }
}

export function execute(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<Done> {
  return new Promise((resolve) => {
    execFile(program, args, { ...options, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      resolve({ status: error ? Number(error.code ?? -1) : 0, stdout, stderr })
    })
  })
}

/** How many files below a directory have the attribute that overlayfs marks a directory with. */
export async function attributesBelow(directory: string): Promise<number> {
  const { stdout } = await execute('getfattr', ['-R', '-P', '-n', 'trusted.overlay.opaque', directory])
  return stdout.split('\n').filter((line) => line.startsWith('trusted.overlay.opaque=')).length
}

/** Waits until `condition` holds, for things that another process does. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, seconds = 20): Promise<void> {
  for (const end = Date.now() + 1000 * seconds * SLOWNESS; Date.now() < end; ) {
    if (await condition()) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error(`It did not happen within ${seconds} s: ${what}`)
}
