import { readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import type { Dev } from '../abi/brand.ts'
import { MISC_MAJOR, major, minor } from '../abi/stat.ts'
import { orElse } from './error.ts'

/**
 * Returns the names which the kernel has now for the number of a character device: of the drivers of its major
 * number, of the device, and of the device's class. The list is empty if no driver has the number.
 *
 * @see linux/fs/char_dev.c chrdev_show(), linux/drivers/char/misc.c misc_seq_show()
 */
export function deviceNames(dev: Dev): readonly string[] {
  const [maj, min] = [major(dev), minor(dev)]
  const [characters = ''] = orElse('', () => readFileSync('/proc/devices', 'latin1')).split('Block devices:')
  const place = `/sys/dev/char/${maj}:${min}`
  const names = [
    ...(maj === MISC_MAJOR
      ? named(
          orElse('', () => readFileSync('/proc/misc', 'latin1')),
          min,
        )
      : named(characters, maj)),
    ...orElse('', () => readFileSync(`${place}/uevent`, 'latin1'))
      .split('\n')
      .filter((line) => line.startsWith('DEVNAME='))
      .map((line) => line.slice('DEVNAME='.length)),
    basename(orElse('', () => readlinkSync(`${place}/subsystem`))),
  ]
  return [...new Set(names)].filter((name) => name !== '' && !(maj === MISC_MAJOR && name === 'misc'))
}

/** Returns the names in the lines "number name" whose number is `number`. */
const named = (text: string, number: number): readonly string[] =>
  [...text.matchAll(/^ *(\d+) (\S+)$/gm)].filter(([, each]) => Number(each) === number).map(([, , name]) => name!)
