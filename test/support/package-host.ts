// A Debian system of its own with systemd as init, in which packages are installed: for tests of what we ship.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Done, execute, until } from './host.ts'
import { stateOf } from './stat.ts'

const BOOT_S = 90
/** The checkout, which the system sees where it is here. */
const CHECKOUT = new URL('../../', import.meta.url).pathname

/** Units that would change what the system has from the host: its devices and the variables of the kernel. */
const MASKED = [
  ...['systemd-udevd.service', 'systemd-udev-trigger.service', 'systemd-tmpfiles-setup-dev.service'],
  ...['systemd-tmpfiles-setup-dev-early.service', 'kmod-static-nodes.service', 'systemd-sysctl.service'],
  ...['systemd-modules-load.service', 'systemd-binfmt.service', 'proc-sys-fs-binfmt_misc.automount'],
  ...[
    'systemd-random-seed.service',
    'systemd-journald-audit.socket',
    'systemd-hwdb-update.service',
    'ldconfig.service',
  ],
]

/**
 *   $1 a directory for what is thrown away
 *   $2 the name of a cgroup
 *   $4 the root directory of the system, over which is a layer that is thrown away
 */
const OUTSIDE = `set -e
mount --make-rprivate /
mount -t cgroup2 none /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$2"
echo 0 >"/sys/fs/cgroup/$2/cgroup.procs"
exec unshare --cgroup --pid --fork --uts --kill-child bash -c "$3" bash "$1" "$4"`
const INSIDE = `set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" none "$1/root"
cd "$1/root"
mount -t proc none proc
mount --rbind /sys sys
mount -t cgroup2 none sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs -o mode=755 none run
mount -t tmpfs -o mode=1777 none tmp
mkdir -p ".${CHECKOUT}"
mount --rbind "${CHECKOUT}" ".${CHECKOUT}"
# Nothing of the host's is started.
rm -rf etc/systemd/system
mkdir -p etc/systemd/system
# What is installed starts.
rm -f usr/sbin/policy-rc.d
printf '[Unit]\\nRequires=sysinit.target dbus.socket\\nAfter=sysinit.target dbus.socket\\nAllowIsolate=yes\\n' >etc/systemd/system/host.target
for unit in ${MASKED.join(' ')}; do ln -s /dev/null "etc/systemd/system/$unit"; done
# Nobody makes a user namespace where the root directory is not that of the mount namespace.
mkdir -p mnt
pivot_root . mnt
umount -l /mnt
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=host.target --log-target=console --log-level=notice --show-status=no`

export class PackageHost {
  readonly #directory = mkdtempSync(join(tmpdir(), 'intercede-package-'))
  readonly #group = `intercede-package-${process.pid}`
  readonly #child: ChildProcess
  #said = ''
  #init = 0

  /** @param root the root directory of a system; the host's own by default */
  private constructor(root: string) {
    const words = ['bash', '-c', OUTSIDE, 'bash', this.#directory, this.#group, INSIDE, root]
    this.#child = spawn('unshare', ['--mount', ...words], { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    for (const stream of [this.#child.stdout!, this.#child.stderr!])
      stream.on('data', (chunk: Buffer) => (this.#said += chunk.toString()))
  }

  static async start(root = '/'): Promise<PackageHost> {
    const host = new PackageHost(root)
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
    const enter = ['nsenter', '--target', String(this.#init), '--mount', '--root', '--wd', '--pid', '--cgroup', '--uts']
    return [...enter, 'sh', '-c', 'mkdir -p "$0" && echo 0 >"$0/cgroup.procs" && exec "$@"', '/sys/fs/cgroup/others']
  }

  run(...command: readonly string[]): Promise<Done> {
    const [program, ...args] = [...this.within, ...command]
    return execute(program!, args)
  }

  /** @throws {Error} with what it says, unless its status is 0 */
  async must(...command: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.run(...command)
    if (status !== 0) throw new Error(`${command.join(' ')} ended with ${status}: ${stdout}${stderr}`)
    return stdout
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
    rmSync(this.#directory, { recursive: true, force: true })
  }

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
    try {
      await until('systemd is there', () => this.#find(), BOOT_S)
      await until(
        'it boots',
        async () => (await this.run('systemctl', 'is-active', 'host.target')).stdout.trim() === 'active',
        BOOT_S,
      )
    } catch (error) {
      throw new Error(`${(error as Error).message}: ${this.#said}`)
    }
  }
}
