import { readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import type { Dev } from '../abi/brand.ts'
import { major, minor } from '../abi/dev.ts'

const MISC = 10

/**
 * The names that the kernel has for the number of a character device now: those of the drivers of its major number, of its
 * device and of the class of that; none where nobody has the number.
 *
 * @see linux/fs/char_dev.c chrdev_show(), linux/drivers/char/misc.c misc_seq_show()
 */
export function deviceNames(dev: Dev): readonly string[] {
  const [maj, min] = [major(dev), minor(dev)]
  const [characters = ''] = orNothing(() => readFileSync('/proc/devices', 'latin1')).split('Block devices:')
  const place = `/sys/dev/char/${maj}:${min}`
  const names = [
    ...(maj === MISC
      ? named(
          orNothing(() => readFileSync('/proc/misc', 'latin1')),
          min,
        )
      : named(characters, maj)),
    ...orNothing(() => readFileSync(`${place}/uevent`, 'latin1'))
      .split('\n')
      .filter((line) => line.startsWith('DEVNAME='))
      .map((line) => line.slice('DEVNAME='.length)),
    basename(orNothing(() => readlinkSync(`${place}/subsystem`))),
  ]
  return [...new Set(names)].filter((name) => name !== '' && !(maj === MISC && name === 'misc'))
}

/** Of lines with a number and a name. */
const named = (text: string, number: number): readonly string[] =>
  [...text.matchAll(/^ *(\d+) (\S+)$/gm)].filter(([, each]) => Number(each) === number).map(([, , name]) => name!)

function orNothing(read: () => string): string {
  try {
    return read()
  } catch {
    return ''
  }
}
