// A mount namespace with pure cgroup v2 and subordinate ids, a daemon and a root file system: for tests of runtimes.

import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fixture } from './fixtures.ts'
import { type Done, execute, until } from './host.ts'

export const CLI = fileURLToPath(new URL('../../bin/intercede.js', import.meta.url))

export const BASE = 200_000
/** Ranges that containers of these tests map: podman takes its own from the file, LXC asks whether root may. */
const SUBIDS = `containers:300000:1000000\nroot:${BASE}:65536\n`

/**
 * Runs a command as on a machine that runtimes find to their taste: pure cgroup v2, subordinate ids for podman. All of it
 * is in a mount namespace of the command's own, so nothing of the real machine is touched; also /dev, for podman gives a
 * container the host's /dev/null as its input, and crun gives what it passes on to the container's root.
 */
const SURROUNDINGS = `set -e
mount --make-rprivate /
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p "$SCRATCH/etc"
mount -t tmpfs none "$SCRATCH/etc"
mkdir "$SCRATCH/etc/upper" "$SCRATCH/etc/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$SCRATCH/etc/upper,workdir=$SCRATCH/etc/work" none /etc
mkdir -p "$SCRATCH/dev"
mount -t tmpfs -o mode=755 none "$SCRATCH/dev"
(cd "$SCRATCH/dev" && mkdir pts shm && mknod null c 1 3 && mknod zero c 1 5 && mknod full c 1 7 && mknod random c 1 8 &&
 mknod urandom c 1 9 && mknod tty c 5 0 && mknod fuse c 10 229 && chmod 666 null zero full random urandom tty fuse &&
 ln -s /proc/self/fd fd && ln -s pts/ptmx ptmx && mount --bind /dev/pts pts && mount -t tmpfs none shm)
mount --rbind "$SCRATCH/dev" /dev
printf %s "$SUBIDS" >/etc/subuid
printf %s "$SUBIDS" >/etc/subgid
exec "$@"`

const WRAP = ['--mount', 'bash', '-c', SURROUNDINGS, 'sh']

/** A daemon with a directory of its own, and what runs containers against it. */
export class Machine {
  readonly directory = mkdtempSync(join(tmpdir(), 'intercede-runtime-'))
  readonly socket = join(this.directory, 'oci.sock')
  /** Where LXC connects: the daemon puts it beside the other. */
  readonly lxcSocket = join(this.directory, 'lxc.sock')
  readonly rootfs = join(this.directory, 'rootfs')
  /** A directory of the host that everybody may write to. */
  readonly shared = join(this.directory, 'shared')
  /** The program `intercede`, of another build if a test says so. */
  readonly program: string
  #daemon: ChildProcess | undefined
  #log = ''

  constructor(program = CLI) {
    this.program = program
    chmodSync(this.directory, 0o755)
    mkdirSync(this.shared)
    chmodSync(this.shared, 0o777)
    for (const name of ['bin', 'dev', 'proc', 'sys', 'tmp', 'etc', 'root', 'run']) {
      mkdirSync(join(this.rootfs, name), { recursive: true })
    }
    copyFileSync('/bin/busybox', join(this.rootfs, 'bin/busybox'))
    for (const name of ['sh', 'mknod', 'ls', 'stat', 'id', 'sleep', 'cat', 'echo', 'mkdir', 'unshare', 'chmod']) {
      symlinkSync('busybox', join(this.rootfs, 'bin', name))
    }
    copyFileSync(fixture('caller', ['-static']), join(this.rootfs, 'bin/caller'))
  }

  /**
   * @param config of the daemon, as YAML
   * @param by a program that executes it, with arguments
   */
  async serve(config = '', by: readonly string[] = []): Promise<void> {
    const served = (): number => this.log.filter(({ message }) => message === 'serving').length
    const before = served()
    const file = join(this.directory, 'config.yaml')
    writeFileSync(file, config)
    const [program = '', ...words] = [...by, process.execPath, this.program]
    this.#daemon = spawn(program, [...words, 'serve', '--socket', this.socket, '--config', file], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    this.#daemon.stderr!.on('data', (chunk: Buffer) => {
      this.#log += chunk.toString()
    })
    await until('the daemon serves', () => served() > before, 20)
  }

  get pid(): number {
    return this.#daemon!.pid!
  }

  /** What the daemon has logged, a line an object. */
  get log(): readonly Readonly<Record<string, unknown>>[] {
    return this.#log
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  }

  /** Waits for the line of a call for this reason in a container. */
  async logged(container: string, reason: string): Promise<Readonly<Record<string, unknown>>> {
    const find = () => this.log.find((line) => String(line.container).startsWith(container) && line.reason === reason)
    await until(`${container} is logged with ${reason}: ${this.#log}`, () => find() !== undefined)
    return find()!
  }

  /** Runs a program in the surroundings that runtimes need. */
  run(program: string, ...args: readonly string[]): Promise<Done> {
    return execute('unshare', [...WRAP, program, ...args], this.#surroundings)
  }

  /**
   * As `run`, for a program that leaves a container behind, which keeps its standard streams: they are a pipe and a file
   * of this directory, for the container may change the mode of what it gets.
   */
  leave(program: string, ...args: readonly string[]): Promise<number | null> {
    const child = this.start(program, ...args)
    return new Promise((resolve) => child.once('exit', resolve))
  }

  /** Starts a program that goes on, with its output in a file of this directory. */
  start(program: string, ...args: readonly string[]): ChildProcess {
    const file = openSync(join(this.directory, 'started'), 'a')
    const stdio: StdioOptions = ['pipe', file, file]
    const child = spawn('unshare', [...WRAP, program, ...args], { ...this.#surroundings, stdio })
    closeSync(file)
    return child
  }

  get #surroundings() {
    return { cwd: this.directory, env: { ...process.env, SCRATCH: this.directory, SUBIDS } }
  }

  /** Ends the daemon. @returns how long it took, in milliseconds, and its status */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<{ readonly took: number; readonly status: number | null }> {
    const daemon = this.#daemon!
    const start = performance.now()
    const ended = new Promise<number | null>((resolve) => daemon.once('exit', resolve))
    daemon.kill(signal)
    return { status: await ended, took: performance.now() - start }
  }

  async close(): Promise<void> {
    if (this.#daemon && this.#daemon.exitCode === null) await this.stop()
    rmSync(this.directory, { recursive: true, force: true })
  }
}
