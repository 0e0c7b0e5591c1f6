// `intercede serve` as a child: for tests of sockets, signals, log lines and the ends of processes.

import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { fixture } from './fixtures.ts'
import { USERNS, until } from './host.ts'
import { stateOf } from './stat.ts'

export const CLI = fileURLToPath(new URL('../../bin/intercede.js', import.meta.url))

type Line = Readonly<Record<string, unknown>>

export const OF_CRUN = /keeps the null device of the host/

/** `intercede serve`, as a process of its own. */
export class Daemon {
  readonly directory = mkdtempSync(join(tmpdir(), 'intercede-daemon-'))
  readonly socket = join(this.directory, 'oci.sock')
  /** Of root: the other one is the container's. */
  readonly #own = mkdtempSync(join(tmpdir(), 'intercede-config-'))
  readonly #child: ChildProcess
  #said = ''

  /**
   * @param config as YAML
   * @param env more of it
   * @param program instead of the usual one
   * @param within words before the command, such as an nsenter(1)
   */
  constructor(config = '', env: NodeJS.ProcessEnv = {}, program = CLI, within: readonly string[] = []) {
    // Containers make nodes there, and cannot exchange the sockets.
    chmodSync(this.directory, 0o1777)
    this.configure(config)
    // It dies on purpose in these tests: no core of it is wanted.
    const serve = [process.execPath, program, 'serve', '--socket', this.socket, '--config', this.#file]
    const [first = '', ...rest] = [...within, 'prlimit', '--core=0', ...serve]
    this.#child = spawn(first, rest, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } })
    this.#child.stderr!.on('data', (chunk: Buffer) => (this.#said += chunk.toString()))
  }

  static async start(config = '', program = CLI, within: readonly string[] = []): Promise<Daemon> {
    const daemon = new Daemon(config, {}, program, within)
    try {
      await until('the daemon serves', () => daemon.logged('serving') > 0, 60)
      return daemon
    } catch (error) {
      await daemon.close()
      throw error
    }
  }

  /** Writes its configuration, which it reads when it starts, and on SIGHUP. */
  configure(config: string): void {
    writeFileSync(this.#file, config)
  }

  /** Has it read its configuration again, and waits until it serves. */
  async reload(): Promise<void> {
    const before = this.logged('serving')
    process.kill(this.pid!, 'SIGHUP')
    await until('it serves again', () => this.logged('serving') > before, 60)
  }

  get #file(): string {
    return join(this.#own, 'config.yaml')
  }

  /** The keeper; `undefined` once it has ended. */
  get pid(): number | undefined {
    const { pid, exitCode, signalCode } = this.#child
    return exitCode === null && signalCode === null ? pid : undefined
  }

  /** The engine that served last. */
  get engine(): number {
    return Number(this.log.findLast(({ engine }) => engine !== undefined)!.engine)
  }

  /** Without what it says of this machine's runtimes. */
  get log(): readonly Line[] {
    const lines = this.said.map((line) => line.replace(/^<\d>/, ''))
    const whole = lines.filter((line) => line.startsWith('{') && line.endsWith('}') && !OF_CRUN.test(line))
    return whole.map((line) => JSON.parse(line) as Line)
  }

  /** What it has written, a line each. */
  get said(): readonly string[] {
    return this.#said.split('\n')
  }

  /** Reads nothing that it says until the action is over. */
  async unheard<T>(action: () => Promise<T>): Promise<T> {
    this.#child.stderr!.pause()
    try {
      return await action()
    } finally {
      this.#child.stderr!.resume()
    }
  }

  /** How often it has said this. */
  logged(message: string): number {
    return this.log.filter((line) => line.message === message).length
  }

  async close(): Promise<void> {
    const engine = this.log.some(({ engine }) => engine !== undefined) ? this.engine : undefined
    this.#child.kill('SIGTERM')
    await until('the daemon has ended', () => this.pid === undefined, 10)
    await until('its engine has ended', () => engine === undefined || !/[^ZX]/.test(stateOf(engine)), 10)
    for (const directory of [this.directory, this.#own]) rmSync(directory, { recursive: true, force: true })
  }
}

/** A container that makes device nodes when it is told to. */
export class Maker {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  readonly #directory: string
  #count = 0

  /** @param options of the fixture `filtered` @param within words before it, such as an nsenter(1) */
  constructor(
    { socket, directory }: { readonly socket: string; readonly directory: string },
    options: readonly string[] = [],
    within: readonly string[] = [],
  ) {
    const metadata = 'security.syscalls.intercept.mknod=true'
    const container = ['--userns', USERNS, '--pidns', '--await-agent', '--metadata', metadata, ...options]
    const loop = 'while read name; do mknod "$name" c 1 3 2>&1 && echo ok; done'
    this.#directory = directory
    const [program = '', ...words] = [...within, fixture('filtered'), socket, ...container, '--', 'sh', '-c', loop]
    this.#child = spawn(program, words, {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]()
  }

  /** @returns "ok", or what mknod(1) complains of */
  async make(): Promise<string> {
    this.#child.stdin!.write(`${join(this.#directory, `${this.#child.pid}-${this.#count++}`)}\n`)
    const { value } = await this.#lines.next()
    return String(value).replace(/^.*: /, '')
  }

  /** As `make`, as the only thing that it does. */
  async once(): Promise<string> {
    const said = await this.make()
    this.end()
    return said
  }

  end(): void {
    this.#child.stdin!.end()
  }
}
