import type { Dev } from '../abi/brand.ts'
import { major, makedev, minor } from '../abi/dev.ts'
import { elements, type Kind, kind } from './kind.ts'

/**
 * What is made without being listed: LXD's set. The whiteout 0:0 of LXD's table is not in it, since the kernel makes
 * whiteouts for anybody (fs/namei.c vfs_mknod()) and they are never ours to make.
 */
export const harmless: readonly Dev[] = [
  makedev(5, 1), // console
  makedev(1, 7), // full
  makedev(1, 3), // null
  makedev(1, 8), // random
  makedev(5, 0), // tty
  makedev(1, 9), // urandom
  makedev(1, 5), // zero
]

/**
 * What may be made, but opened by nobody who has got the node from us: the driver would open a terminal of the host, whatever
 * the container has as its console (linux/drivers/tty/tty_io.c tty_lookup_driver()).
 */
export const opensHost: ReadonlySet<Dev> = new Set([makedev(5, 1)])

/**
 * Devices that no list can allow, because who may open them owns the host or ends it. A device whose driver checks a
 * capability in the initial user namespace is still named where the check is not in open(). Others are the
 * administrator's decision: /dev/loop-control (10:237) for one only adds and removes loop devices, whose block nodes
 * nobody gets here, and /dev/kvm, /dev/fuse and /dev/net/tun are what the key is for.
 */
const refused: readonly { readonly major: number; readonly minor?: number; readonly gives: string }[] = [
  { major: 1, minor: 1, gives: 'the memory of the host (/dev/mem)' },
  { major: 1, minor: 2, gives: 'the kernel memory of the host (/dev/kmem)' },
  { major: 1, minor: 4, gives: 'the I/O ports of the host (/dev/port)' },
  { major: 4, gives: 'the terminals and serial lines of the host (/dev/tty*)' },
  { major: 7, gives: 'what is on the screens of the host (/dev/vcs*)' },
  { major: 10, minor: 223, gives: 'keys that are typed on the host (/dev/uinput)' },
  { major: 13, gives: 'what is typed on the host (/dev/input/*)' },
  { major: 10, minor: 130, gives: 'a reboot of the host (/dev/watchdog)' },
  { major: 10, minor: 144, gives: 'the firmware settings of the host (/dev/nvram)' },
  { major: 10, minor: 203, gives: 'new devices on the host (/dev/cuse)' },
  { major: 10, minor: 231, gives: 'the memory image of the host (/dev/snapshot)' },
  { major: 21, gives: 'raw access to the disks of the host (/dev/sg*)' },
  { major: 90, gives: 'raw access to the flash memory of the host (/dev/mtd*)' },
  { major: 162, gives: 'raw access to the disks of the host (/dev/raw/*)' },
  { major: 202, gives: 'the processor registers of the host (/dev/cpu/*/msr)' },
]

const MAJOR_MAX = 0xfff
const MINOR_MAX = 0xfffff

function device(text: string): Dev {
  const quoted = JSON.stringify(text)
  const [type, a, b] = /^([bc]):(\d{1,9}):(\d{1,9})$/.exec(text)?.slice(1) ?? []
  if (type === undefined) throw new RangeError(`${quoted} is no device`)
  if (type === 'b') throw new RangeError(`${quoted} is a block device, and those would give disks of the host`)
  const [maj, min] = [Number(a), Number(b)]
  if (maj > MAJOR_MAX || min > MINOR_MAX) throw new RangeError(`${quoted} is out of range`)
  const refusal = refused.find((entry) => entry.major === maj && (entry.minor ?? min) === min)
  if (refusal) throw new RangeError(`${quoted} would give the container ${refusal.gives}`)
  return makedev(maj, min)
}

/** More character devices, by number. */
export const devices: Kind<ReadonlySet<Dev>> = kind({
  allowed: `a list of c:MAJOR:MINOR such as c:10:200, majors to ${MAJOR_MAX}, minors to ${MINOR_MAX}`,
  parse: (text) => new Set(elements(text).map(device)),
  format: (set) => [...set].map((dev) => `c:${major(dev)}:${minor(dev)}`).join(','),
  lowers: (from, to) => [...to].every((dev) => from.has(dev)),
})
