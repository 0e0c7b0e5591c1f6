import { readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import type { Dev } from '../abi/brand.ts'
import { MISC_MAJOR, major, minor } from '../abi/stat.ts'
import { orElse } from './error.ts'

/** The kernel's lists of drivers, with their major numbers, or their minor numbers of the major `MISC_MAJOR`. */
interface DriverLists {
  readonly characters: string
  readonly misc: string
}

function driverLists(): DriverLists {
  const [characters = ''] = orElse('', () => readFileSync('/proc/devices', 'latin1')).split('Block devices:')
  return { characters, misc: orElse('', () => readFileSync('/proc/misc', 'latin1')) }
}

const driversOf = (dev: Dev, { characters, misc }: DriverLists): readonly string[] =>
  major(dev) === MISC_MAJOR ? named(misc, minor(dev)) : named(characters, major(dev))

/**
 * Returns the names which the kernel has now for the number of a character device: of the drivers of its major
 * number, of the device, and of the device's class. The list is empty if no driver has the number.
 *
 * @see linux/fs/char_dev.c chrdev_show(), linux/drivers/char/misc.c misc_seq_show()
 */
export function deviceNames(dev: Dev, lists = driverLists()): readonly string[] {
  const place = `/sys/dev/char/${major(dev)}:${minor(dev)}`
  const names = [
    ...driversOf(dev, lists),
    ...orElse('', () => readFileSync(`${place}/uevent`, 'latin1'))
      .split('\n')
      .filter((line) => line.startsWith('DEVNAME='))
      .map((line) => line.slice('DEVNAME='.length)),
    basename(orElse('', () => readlinkSync(`${place}/subsystem`))),
  ]
  return [...new Set(names)].filter((name) => name !== '' && !(major(dev) === MISC_MAJOR && name === 'misc'))
}

/** In milliseconds. */
const RECENT = 1000
let recent: (DriverLists & { readonly at: number }) | undefined

/** Returns the same, at most a second old, for texts about many calls of containers, which chose the numbers. */
export function recentDeviceNames(dev: Dev): readonly string[] {
  const now = Date.now()
  if (!recent || Math.abs(now - recent.at) > RECENT) recent = { ...driverLists(), at: now }
  return driversOf(dev, recent).length === 0 ? [] : deviceNames(dev, recent)
}

/** Returns the names in the lines "number name" whose number is `number`. */
const named = (text: string, number: number): readonly string[] =>
  [...text.matchAll(/^ *(\d+) (\S+)$/gm)].filter(([, each]) => Number(each) === number).map(([, , name]) => name!)
