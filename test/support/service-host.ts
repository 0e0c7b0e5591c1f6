// systemd as the init of a pid namespace, with our units: for tests of the service.

import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CLI } from './machine.ts'
import { SystemdHost } from './systemd-host.ts'

const SHIPPED = fileURLToPath(new URL('../../deploy/systemd', import.meta.url))
const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')
const BOOT_S = 60

/** A path as one word of a unit, also with spaces. */
const quoted = (path: string): string => `"${path}"`

/**
 * Surroundings in which systemd is init: the files of the host with layers over /etc and /var that are thrown away, its own
 * pid namespace, and a cgroup as its root. Nothing is mounted in the host's namespace.
 *
 *   $1 a directory for what is thrown away, with our units in units/; $2 "journal" for a journal of its own
 */
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
const BARE = '[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\n'
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
  /** Another build of the program than the usual one. */
  readonly program?: string
  /** Lets `intercede api` answer, at this port too. */
  readonly apiPort?: number
  /** Without our units, which somebody else installs. */
  readonly isBare?: boolean
}

/** A machine whose init is systemd, with the units that we ship. */
export class ServiceHost extends SystemdHost {
  readonly socket = '/run/intercede/oci.sock'

  private constructor({ hasJournal = false, apiPort, program = CLI, isBare = false }: ServiceHostOptions) {
    super('service', [], BOOT_S)
    // It stays root's, for the daemon's configuration is in it.
    chmodSync(this.directory, 0o755)
    writeFileSync(this.#logFile, '')
    const units = join(this.directory, 'units')
    if (isBare) mkdirSync(units)
    else cpSync(SHIPPED, units, { recursive: true })
    const wanted = hasJournal ? 'Wants=systemd-journald.service\nAfter=systemd-journald.service\n' : ''
    writeFileSync(join(units, 'host.target'), `${isBare ? BARE : TARGET}${wanted}`)
    for (const unit of [
      'intercede.socket',
      'intercede-lxc.socket',
      'intercede-feed.socket',
      'intercede-control.socket',
      'intercede.service',
      'intercede-leave.service',
      'intercede-leave.timer',
    ])
      this.#drop(unit, ALONE)
    if (isBare) return
    this.configure('')
    const serve = `${quoted(process.execPath)} ${quoted(program)} serve --config ${this.#configFile}`
    const words = ['ExecStart=', `ExecStart=${serve}`, 'ExecReload=', `ExecReload=${serve} --check-config`]
    const log = hasJournal ? [] : [`StandardError=append:${this.#logFile}`]
    const exec = [...words, ...log, ''].join('\n')
    this.#drop('intercede.service', `${ALONE}[Service]\n${exec}`)
    if (apiPort !== undefined) this.#dropApi(apiPort)
  }

  static async start(options: ServiceHostOptions = {}): Promise<ServiceHost> {
    const host = new ServiceHost(options)
    await host.boot(INSIDE, options.hasJournal ? 'journal' : 'file')
    return host
  }

  async property(name: string): Promise<string> {
    return (await this.run('systemctl', 'show', '--value', '-p', name, 'intercede.service')).stdout.trim()
  }

  /** What the daemon has logged. */
  get log(): readonly Readonly<Record<string, unknown>>[] {
    const lines = readFileSync(this.#logFile, 'utf8').split('\n')
    return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
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
    // The service has a /tmp of its own, so it would not see a checkout or a Node there.
    const seen = [ROOT, process.execPath].map((path) => `BindReadOnlyPaths=${quoted(path)}`)
    const exec = ['ExecStart=', `ExecStart=${quoted(process.execPath)} ${quoted(CLI)} api`, ...seen, ''].join('\n')
    this.#drop('intercede-api.service', `${ALONE}[Service]\n${exec}`)
  }

  #drop(unit: string, text: string): void {
    const folder = join(this.directory, 'units', `${unit}.d`)
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'test.conf'), text)
  }
}
