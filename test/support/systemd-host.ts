// systemd as the init of a pid namespace and of a cgroup of its own: what the hosts that boot one have in common.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Done, execute, until } from './host.ts'
import { stateOf } from './stat.ts'

/**
 *   $1 a directory for what is thrown away; $2 the name of a cgroup; $3 the script that goes on inside and becomes systemd, which
 *   gets $1 and $4
 */
const OUTSIDE = `set -e
mount --make-rprivate /
mount -t cgroup2 none /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$2"
echo 0 >"/sys/fs/cgroup/$2/cgroup.procs"
exec unshare --cgroup --pid --fork --mount-proc --uts --kill-child bash -c "$3" bash "$1" "$4"`

export class SystemdHost {
  readonly directory: string
  readonly #group: string
  readonly #enter: readonly string[]
  readonly #bootS: number
  #child: ChildProcess | undefined
  #said = ''
  #init = 0

  /**
   * @param enter options of nsenter(1) for its namespaces, beside those of mounts, processes and cgroups
   * @param bootS how long it may take to boot, in seconds
   */
  protected constructor(name: string, enter: readonly string[], bootS: number) {
    this.directory = mkdtempSync(join(tmpdir(), `intercede-${name}-`))
    this.#group = `intercede-${name}-${process.pid}`
    this.#enter = enter
    this.#bootS = bootS
  }

  /** Starts `inside`, which becomes systemd, in namespaces of its own. @returns when its host.target is active */
  protected async boot(inside: string, word: string): Promise<void> {
    const words = ['--mount', 'bash', '-c', OUTSIDE, 'bash', this.directory, this.#group, inside, word]
    const child = spawn('unshare', words, { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    this.#child = child
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (this.#said += chunk.toString()))
    const isActive = async (): Promise<boolean> =>
      (await this.run('systemctl', 'is-active', 'host.target')).stdout.trim() === 'active'
    try {
      await until('systemd is there', () => this.#find(child.pid!), this.#bootS)
      await until('systemd boots', isActive, this.#bootS)
    } catch (error) {
      await this.close()
      throw new Error(`${(error as Error).message}: ${this.#said}`)
    }
  }

  /** The words that let a command run there. */
  get within(): readonly string[] {
    const enter = ['nsenter', '--target', String(this.#init), '--mount', '--pid', '--cgroup', ...this.#enter]
    // Not in the cgroup that the test is in, of which the daemon sees nothing.
    return [...enter, 'sh', '-c', 'mkdir -p "$0" && echo 0 >"$0/cgroup.procs" && exec "$@"', '/sys/fs/cgroup/others']
  }

  run(...command: readonly string[]): Promise<Done> {
    const [program, ...args] = [...this.within, ...command]
    return execute(program!, args)
  }

  async close(): Promise<void> {
    const child = this.#child
    child?.kill('SIGKILL')
    await until('unshare has ended', () => !child || child.exitCode !== null || child.signalCode !== null)
    await until('systemd has ended', () => this.#init === 0 || stateOf(this.#init) === '', this.#bootS)
    await execute('unshare', [
      ...['--mount', '--propagation', 'private', 'sh', '-c'],
      `mount -t cgroup2 none /mnt && find "/mnt/${this.#group}" -depth -type d -exec rmdir {} +`,
    ])
    rmSync(this.directory, { recursive: true, force: true })
  }

  /** unshare becomes bash, and that the one which forks systemd. */
  #find(pid: number): boolean {
    const read = (path: string): string => {
      try {
        return readFileSync(path, 'latin1').trim()
      } catch {
        return ''
      }
    }
    const child = read(`/proc/${pid}/task/${pid}/children`)
    if (read(`/proc/${child}/comm`) !== 'systemd') return false
    this.#init = Number(child)
    return true
  }
}
