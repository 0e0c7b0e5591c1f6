import type { Dev } from '../abi/brand.ts'
import { major, makedev, minor } from '../abi/stat.ts'
import { briefly } from '../shared/texts.ts'
import { PolicyError } from './error.ts'
import { fullName } from './key.ts'
import { type DeviceNames, givenByName, givenByNumber } from './refused-devices.ts'
import { elements, type ValueType, valueType } from './value-types.ts'

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
 * What may be made, but opened by nobody who has got the node from us: the driver would open a terminal of the host,
 * whatever the container has as its console (linux/drivers/tty/tty_io.c tty_lookup_driver()).
 */
export const opensHost: ReadonlySet<Dev> = new Set([makedev(5, 1)])

/** A number that no driver can have: linux/fs.h CHRDEV_MAJOR_MAX, linux/block/genhd.c BLKDEV_MAJOR_MAX. */
export const NOBODYS = makedev(0xfff, 0xfffff)

/** Stands in a list for whatever the device rules of the container's control groups allow by name. */
export const GRANTED = 'granted'
/** What a list of devices has. */
type Listed = Dev | typeof GRANTED

const MAJOR_MAX = 0xfff
const MINOR_MAX = 0xfffff

function device(text: string): Listed {
  if (text === GRANTED) return GRANTED
  const wrong = (why: string): RangeError => new RangeError(`${briefly(text)} ${why}`)
  const [type, a, b] = /^([bc]):(\d{1,9}):(\d{1,9})$/.exec(text)?.slice(1) ?? []
  if (type === undefined) throw wrong('is no device')
  if (type === 'b')
    throw wrong(
      `is a block device, of which no number can be listed; ${GRANTED} allows those that the container's device rules allow`,
    )
  const [maj, min] = [Number(a), Number(b)]
  if (maj > MAJOR_MAX || min > MINOR_MAX) throw wrong('is out of range')
  const gives = givenByNumber(maj, min)
  if (gives !== undefined) throw wrong(`would give the container ${gives}`)
  return makedev(maj, min)
}

/** As it is written in a list. */
export const written = (dev: Listed): string => (dev === GRANTED ? dev : `c:${major(dev)}:${minor(dev)}`)

/** More character devices, by number; and all devices, also of blocks, that the container may open anyway. */
export const devices: ValueType<ReadonlySet<Listed>> = valueType({
  isList: true,
  // net/tun, fuse and pts/ptmx.
  offered: ['c:10:200', 'c:10:229', 'c:5:2', GRANTED],
  allowed: `a list of c:MAJOR:MINOR such as c:10:200, majors to ${MAJOR_MAX}, minors to ${MINOR_MAX}, and of "${GRANTED}"`,
  parse: (text) => new Set(elements(text).map(device)),
  format: (set) => [...set].map(written).join(','),
  lowest: new Set(),
  lowers: (from, to) => [...to].every((dev) => from.has(dev)),
  meet: (one, other) => new Set([...one].filter((dev) => other.has(dev))),
})

/** Returns the numbers of a list. */
export const numbersOf = (list: Iterable<Listed>): readonly Dev[] => [...list].filter((dev) => dev !== GRANTED)

/**
 * Returns all devices that may be made where `mknod.devices` lists these.
 *
 * @throws {PolicyError} if no container may have a listed device, by the name that its number has now
 */
export function makeable(listed: ReadonlySet<Listed>, named: DeviceNames): ReadonlySet<Listed> {
  for (const dev of listed) {
    const found = dev === GRANTED ? undefined : givenByName(dev, named)
    if (!found) continue
    const { name, gives } = found
    throw new PolicyError(
      `${fullName('mknod.devices')} has ${written(dev)}, which is ${JSON.stringify(name)} on this host: it would give the container ${gives}; take it off the list`,
    )
  }
  return new Set([...harmless, ...listed])
}
