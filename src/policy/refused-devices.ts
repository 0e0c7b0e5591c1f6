import type { Dev } from '../abi/brand.ts'
import { major, makedev, minor } from '../abi/stat.ts'
import { recentDeviceNames } from '../kernel/device-names.ts'

/**
 * Character devices that no list can allow, because a process that opens them owns the host, ends it, or reads its
 * secrets or its keyboard. A device whose driver checks a capability in the initial user namespace is still refused if
 * the check is not in open(). The administrator decides about other devices: /dev/loop-control (10:237) only adds and
 * removes loop devices, whose block nodes are never made here; /dev/kvm, /dev/fuse, /dev/net/tun and /dev/vhost-net are
 * the purpose of the key; and a listed sound card, camera or graphics card is meant.
 */
type Refusal<What> = readonly [what: What, gives: string]

/** Numbers of Documentation/admin-guide/devices.txt, as MAJOR, MAJOR-MAJOR, MAJOR:MINOR or MAJOR:MINOR-MINOR. */
const byNumber: readonly Refusal<string>[] = [
  ['1:1 1:6', 'the memory of the host (/dev/mem)'],
  ['1:2', 'the kernel memory of the host (/dev/kmem)'],
  ['1:4', 'the I/O ports of the host (/dev/port)'],
  ['1:11', 'the kernel log of the host (/dev/kmsg)'],
  ['1:12 10:190', 'the memory of the host as it crashed (/dev/oldmem, /dev/crash)'],
  ['4', 'the terminals and serial lines of the host (/dev/tty*)'],
  ['2-3', 'the pseudo terminals of the host (/dev/pty*, /dev/tty*)'],
  [
    '5:3-1048575 17-20 22-25 32-33 43-44 46-49 57-58 71-73 75-76 78-79 105-106 112-113 148-149 154-157 161 164-167 ' +
      '172-175 188 204-205 208-209 216-217 224-225 227-229 256',
    'the serial lines and consoles of the host (/dev/tty*, /dev/cu*, /dev/hvc*)',
  ],
  ['7', 'what is on the screens of the host (/dev/vcs*)'],
  ['29', 'what is on the screens of the host (/dev/fb*)'],
  ['10:0-15 10:149-150 10:163 10:180 10:195 11 15 56 85', 'what is typed on the host (mice and keyboards)'],
  ['13 180:66 180:96-111 180:132', 'what is typed on the host (/dev/input/*, /dev/usb/hiddev*)'],
  ['10:223', 'keys that are typed on the host (/dev/uinput)'],
  ['10:239-240', 'keys that are typed on the host (/dev/uhid, /dev/userio)'],
  ['10:137', 'new Bluetooth devices on the host (/dev/vhci)'],
  ['10:203', 'new devices on the host (/dev/cuse)'],
  ['10:130 10:212-215', 'a reboot of the host (/dev/watchdog*)'],
  ['10:134 10:154 10:61', 'the power management of the host (/dev/apm_bios, /dev/pmu, /dev/cpu_dma_latency)'],
  ['10:242', 'the radios of the host (/dev/rfkill)'],
  ['10:135-136', 'the clock of the host (/dev/rtc)'],
  [
    '10:139 10:144 10:160 10:170 10:178 10:181 10:184 10:219',
    'the firmware settings of the host (/dev/nvram, /dev/cpu/microcode, ...)',
  ],
  ['10:164 10:173 10:208-211 170 207', 'the management controller of the host (/dev/ipmi*, /dev/megarac*)'],
  ['10:224', 'the keys of the host (/dev/tpm*)'],
  ['10:227 192-193', 'what the kernel of the host does (/dev/mcelog, /dev/profile, /dev/trace)'],
  ['10:231', 'the memory image of the host (/dev/snapshot)'],
  ['10:165', 'the virtual machines and the memory of the host (/dev/vmmon)'],
  ['10:234-236', 'the file systems and volumes of the host (/dev/btrfs-control, /dev/autofs, /dev/mapper/control)'],
  ['21', 'raw access to the disks of the host (/dev/sg*)'],
  ['162', 'raw access to the disks of the host (/dev/raw/*)'],
  ['97 151-152 186 199-201 260 10:166 10:202 10:220', 'raw access to the disks of the host (their controllers)'],
  ['9 12 27 37 86 96 206 230', 'the tapes of the host (/dev/st*)'],
  ['90', 'raw access to the flash memory of the host (/dev/mtd*)'],
  ['89 153 171 189 221 10:143 10:161-162 10:188', 'raw access to the buses of the host (USB, I2C, SPI, PCI, ...)'],
  ['10:175 28', 'the memory of cards of the host (/dev/agpgart, /dev/staliomem*)'],
  ['202', 'the processor registers of the host (/dev/cpu/*/msr)'],
]

/**
 * Drivers and classes with dynamic numbers, by their names in /proc/devices, /proc/misc and sysfs; and the devices of
 * `byNumber` by name, for a machine that numbers them otherwise.
 */
const byName: readonly Refusal<RegExp>[] = [
  [/^(hidraw|hiddev|usbmon|lirc|input|serio_raw\d*|psaux)$/, 'what is typed on the host'],
  [/^(uhid|uinput|userio|vhci|cuse|vduse)$/, 'new devices on the host'],
  [/^(tty\w*|hvc\w*|hvsi|xvc|rfcomm)$/, 'the serial lines and consoles of the host'],
  [/^(vcs\w*|fb|graphics|vga_arbiter|cec|media)$/, 'the screens and video devices of the host'],
  [/^watchdog\d*$/, 'a reboot of the host'],
  [/^(rtc\d*|ptp|nvram|microcode|cros_ec)$/, 'the clocks and the firmware of the host'],
  [/^(cpu_dma_latency|network_latency|network_throughput|memory_bandwidth|apm_bios|rfkill)$/, 'the power of the host'],
  [/^(mei\d*|hpilo|ipmi|ipmidev|virtio-ports|virtio-portsdev)$/, 'the management controller of the host'],
  [/^(tpm|tpmrm|vtpmx|sev-guest|tdx_guest)$/, 'the keys of the host'],
  [/^(gpio|gpiochip|i2c|i2c-dev|spi|spidev|firewire|usb|usb_device|uio|vme)$/, 'raw access to the buses of the host'],
  [/^(snapshot|crash|dax|nd|ndctl|dimmctl|msr|cpu\/msr|mcelog)$/, 'the memory and processors of the host'],
  [/^(xen\/.*|vmmon|vboxdrvu?)$/, 'the virtual machines and the memory of the host'],
  [/^(autofs|btrfs-control|device-mapper|nvme-fabrics|ublk-control)$/, 'the file systems and volumes of the host'],
  [/^(nvme|nvme-generic|bsg|sg|scsi_generic|raw|aoe|aoechr|rpmb|mtd|ubi\w*)$/, 'raw access to the disks of the host'],
  [/^(mpt\d?ctl|megadev\w*|megaraid_\w+|aac|tw[ael])$/, 'raw access to the disks of the host'],
  [/^(st|osst|ch|sch|scsi_tape|scsi_changer)$/, 'the tapes of the host'],
]

interface Range {
  readonly majors: readonly [from: number, to: number]
  readonly minors: readonly [from: number, to: number]
}

const bounds = (text: string): readonly [number, number] => {
  const [from, to = from] = text.split('-').map(Number)
  return [from!, to!]
}

function rangeOf(text: string): Range {
  const [majors = '', minors] = text.split(':')
  return { majors: bounds(majors), minors: minors === undefined ? [0, Number.POSITIVE_INFINITY] : bounds(minors) }
}

const isWithin = (value: number, [from, to]: readonly [number, number]): boolean => from <= value && value <= to

const ranges: readonly Refusal<readonly Range[]>[] = byNumber.map(([text, gives]) => [
  text.split(' ').map(rangeOf),
  gives,
])

/** What a container would get with a device of this number; undefined if it is not among those that are refused. */
export function givenByNumber(maj: number, min: number): string | undefined {
  const isIt = ({ majors, minors }: Range): boolean => isWithin(maj, majors) && isWithin(min, minors)
  return ranges.find(([all]) => all.some(isIt))?.[1]
}

/** The names that the kernel has for a number now; none if nobody has it. */
export type DeviceNames = (dev: Dev) => readonly string[]

/** These have what every container has beside what none may have, and never other numbers. */
const JUDGED_BY_NUMBER: ReadonlySet<number> = new Set([1, 5])
const MISC = 10

/** What a container would get with a device, by the name that its number has on this host now. */
export function givenByName(
  dev: Dev,
  named: DeviceNames,
): { readonly name: string; readonly gives: string } | undefined {
  if (JUDGED_BY_NUMBER.has(major(dev))) return undefined
  for (const name of named(dev)) {
    const gives = byName.find(([names]) => names.test(name))?.[1]
    if (gives !== undefined) return { name, gives }
  }
  return undefined
}

/** What a container would get with a device of this number, or of a name that the number has here by now. */
export const givenHere = (maj: number, min: number): string | undefined =>
  givenByNumber(maj, min) ?? givenByName(makedev(maj, min), recentDeviceNames)?.gives

/** linux/fs/char_dev.c find_dynamic_major(); linux/drivers/char/misc.c, before Linux 6.2 below 128 */
const isGivenOut = (maj: number, min: number): boolean =>
  maj === MISC ? min < 128 || min > 255 : isWithin(maj, [234, 254]) || isWithin(maj, [384, 511])

/** Has nobody this number, and may any driver that is loaded get it? */
export const isUnclaimed = (dev: Dev, named: DeviceNames): boolean =>
  isGivenOut(major(dev), minor(dev)) && named(dev).length === 0
