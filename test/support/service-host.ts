// systemd as the init of a pid namespace, with our units: for tests of the service.

import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Done, execute, until } from './host.ts'
import { CLI } from './machine.ts'
import { stateOf } from './stat.ts'

const SHIPPED = fileURLToPath(new URL('../../deploy/systemd', import.meta.url))
const BOOT_S = 60

/**
 * Surroundings in which systemd is init: the files of the host with layers over /etc and /var that are thrown away, its own
 * pid namespace, and a cgroup as its root. Nothing is mounted in the host's namespace.
 *
 *   $1 a directory for what is thrown away, with our units in units/; $4 "journal" for a journal of its own
 */
const OUTSIDE = `set -e
mount --make-rprivate /
mount -t cgroup2 none /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$2"
echo 0 >"/sys/fs/cgroup/$2/cgroup.procs"
exec unshare --cgroup --pid --fork --mount-proc --uts --kill-child bash -c "$3" bash "$1" "$4"`
const INSIDE = `set -e
mount -t cgroup2 none /sys/fs/cgroup
for name in etc var; do
  mkdir "$1/$name"
  mount -t tmpfs none "$1/$name"
  mkdir "$1/$name/upper" "$1/$name/work"
  mount -t overlay -o "lowerdir=/$name,upperdir=$1/$name/upper,workdir=$1/$name/work" none "/$name"
done
mount -t tmpfs -o mode=755 none /run
rm -rf /etc/systemd/system
mkdir -p /etc/systemd/system
cp -r "$1"/units/* /etc/systemd/system
without="systemd-journald.service systemd-journald.socket"
if [ "$2" = journal ]; then
  without=
  mkdir -p /etc/systemd/journald.conf.d
  printf '[Journal]\nStorage=volatile\nReadKMsg=no\nRateLimitBurst=0\n' >/etc/systemd/journald.conf.d/test.conf
fi
# /dev is the host's, and so would be the link /dev/log.
for unit in $without systemd-journald-dev-log.socket systemd-journald-audit.socket; do
  ln -s /dev/null "/etc/systemd/system/$unit"
done
exec env -i container=other "PATH=$PATH" /lib/systemd/systemd --system --unit=host.target --log-target=console \
  --log-level=notice --show-status=no`

/** What boots: nothing but our units. */
const TARGET = `[Unit]
DefaultDependencies=no
Requires=intercede.socket intercede-lxc.socket intercede-feed.socket intercede-control.socket
After=intercede.socket intercede-lxc.socket intercede-feed.socket intercede-control.socket
AllowIsolate=yes
`
/** A unit of a system without a basic.target. */
const ALONE = '[Unit]\nDefaultDependencies=no\n'

export interface ServiceHostOptions {
  /** Lets the service log to a journal of that machine, instead of a file. */
  readonly hasJournal?: boolean
  /** Lets `intercede api` answer, at this port too. */
  readonly apiPort?: number
}

/** A machine whose init is systemd, with the units that we ship. */
export class ServiceHost {
  readonly directory = mkdtempSync(join(tmpdir(), 'intercede-service-'))
  readonly socket = '/run/intercede/oci.sock'
  readonly #group = `intercede-service-${process.pid}`
  readonly #child: ChildProcess
  #said = ''
  #init = 0

  constructor({ hasJournal = false, apiPort }: ServiceHostOptions = {}) {
    // It stays root's, for the daemon's configuration is in it.
    chmodSync(this.directory, 0o755)
    writeFileSync(this.#logFile, '')
    const units = join(this.directory, 'units')
    cpSync(SHIPPED, units, { recursive: true })
    const wanted = hasJournal ? 'Wants=systemd-journald.service\nAfter=systemd-journald.service\n' : ''
    writeFileSync(join(units, 'host.target'), `${TARGET}${wanted}`)
    for (const unit of [
      'intercede.socket',
      'intercede-lxc.socket',
      'intercede-feed.socket',
      'intercede-control.socket',
      'intercede.service',
    ])
      this.#drop(unit, ALONE)
    this.configure('')
    const serve = `${process.execPath} ${CLI} serve --config ${this.#configFile}`
    const words = ['ExecStart=', `ExecStart=${serve}`, 'ExecReload=', `ExecReload=${serve} --check-config`]
    const log = hasJournal ? [] : [`StandardError=append:${this.#logFile}`]
    const exec = [...words, ...log, ''].join('\n')
    this.#drop('intercede.service', `${ALONE}[Service]\n${exec}`)
    if (apiPort !== undefined) this.#dropApi(apiPort)
    const within = ['bash', '-c', OUTSIDE, 'bash', this.directory, this.#group, INSIDE, hasJournal ? 'journal' : 'file']
    this.#child = spawn('unshare', ['--mount', ...within], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    for (const stream of [this.#child.stdout!, this.#child.stderr!])
      stream.on('data', (chunk: Buffer) => (this.#said += chunk.toString()))
  }

  static async start(options: ServiceHostOptions = {}): Promise<ServiceHost> {
    const host = new ServiceHost(options)
    try {
      await host.#boot()
      return host
    } catch (error) {
      await host.close()
      throw error
    }
  }

  /** The words that let a command run there. */
  get within(): readonly string[] {
    const enter = ['nsenter', '--target', String(this.#init), '--mount', '--pid', '--cgroup']
    // Not in the cgroup that the test is in, of which the daemon sees nothing.
    return [...enter, 'sh', '-c', 'mkdir -p "$0" && echo 0 >"$0/cgroup.procs" && exec "$@"', '/sys/fs/cgroup/others']
  }

  run(...command: readonly string[]): Promise<Done> {
    const [program, ...args] = [...this.within, ...command]
    return execute(program!, args)
  }

  async property(name: string): Promise<string> {
    return (await this.run('systemctl', 'show', '--value', '-p', name, 'intercede.service')).stdout.trim()
  }

  /** What the daemon has logged. */
  get log(): readonly Readonly<Record<string, unknown>>[] {
    const lines = readFileSync(this.#logFile, 'utf8').split('\n')
    return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
  }

  async close(): Promise<void> {
    const isOver = (): boolean => this.#child.exitCode !== null || this.#child.signalCode !== null
    this.#child.kill('SIGKILL')
    await until('unshare has ended', isOver)
    await until('systemd has ended', () => this.#init === 0 || stateOf(this.#init) === '', BOOT_S)
    await execute('unshare', [
      ...['--mount', '--propagation', 'private', 'sh', '-c'],
      `mount -t cgroup2 none /mnt && find "/mnt/${this.#group}" -depth -type d -exec rmdir {} +`,
    ])
    rmSync(this.directory, { recursive: true, force: true })
  }

  configure(config: string): void {
    writeFileSync(this.#configFile, config)
  }

  get #configFile(): string {
    return join(this.directory, 'config.yaml')
  }

  get #logFile(): string {
    return join(this.directory, 'daemon.log')
  }

  #dropApi(port: number): void {
    const listen = `ListenStream=127.0.0.1:${port}`
    this.#drop('intercede-api.socket', `${ALONE}[Socket]\n${listen}\n`)
    const exec = ['ExecStart=', `ExecStart=${process.execPath} ${CLI} api`, ''].join('\n')
    this.#drop('intercede-api.service', `${ALONE}[Service]\n${exec}`)
  }

  #drop(unit: string, text: string): void {
    const folder = join(this.directory, 'units', `${unit}.d`)
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'test.conf'), text)
  }

  /** unshare becomes bash, and that the one which forks systemd. */
  #find(): boolean {
    const read = (path: string): string => {
      try {
        return readFileSync(path, 'latin1').trim()
      } catch {
        return ''
      }
    }
    const child = read(`/proc/${this.#child.pid}/task/${this.#child.pid}/children`)
    if (read(`/proc/${child}/comm`) !== 'systemd') return false
    this.#init = Number(child)
    return true
  }

  async #boot(): Promise<void> {
    await until('systemd is there', () => this.#find(), BOOT_S)
    for (const end = Date.now() + 1000 * BOOT_S; ; await new Promise((resolve) => setTimeout(resolve, 100))) {
      const { stdout } = await this.run('systemctl', 'is-active', 'host.target')
      if (stdout.trim() === 'active') return
      if (Date.now() > end) throw new Error(`systemd does not boot: ${stdout} ${this.#said}`)
    }
  }
}
