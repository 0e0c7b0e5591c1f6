// A Debian system of its own with systemd as init, in which packages are installed: for tests of what we ship.

import { fileURLToPath } from 'node:url'
import { FIXTURES } from './fixtures.ts'
import { SystemdHost } from './systemd-host.ts'

const BOOT_S = 90
/** The checkout, which the system sees where it is here. */
const CHECKOUT = fileURLToPath(new URL('../../', import.meta.url))

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
 *   $2 the root directory of the system, over which is a layer that is thrown away
 */
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
for each in "${CHECKOUT}" ${FIXTURES}; do mkdir -p ".$each"; mount --rbind "$each" ".$each"; done
printf '[Unit]\\nRequires=sysinit.target dbus.socket\\nAfter=sysinit.target dbus.socket\\nAllowIsolate=yes\\n' >etc/systemd/system/host.target
for unit in ${MASKED.join(' ')}; do ln -s /dev/null "etc/systemd/system/$unit"; done
# Nobody makes a user namespace where the root directory is not that of the mount namespace.
mkdir -p mnt
pivot_root . mnt
umount -l /mnt
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=host.target --log-target=console --log-level=notice --show-status=no`

export class PackageHost extends SystemdHost {
  /** @param root the root directory of a system */
  static async start(root: string): Promise<PackageHost> {
    const host = new PackageHost('package', ['--root', '--wd', '--uts'], BOOT_S)
    await host.boot(INSIDE, root)
    return host
  }

  /** @throws {Error} with what it says, unless its status is 0 */
  async must(...command: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.run(...command)
    if (status !== 0) throw new Error(`${command.join(' ')} ended with ${status}: ${stdout}${stderr}`)
    return stdout
  }
}
