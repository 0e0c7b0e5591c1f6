import type { Dev } from './brand.ts'

/**
 * Packs a device number as mknod(2) takes it in a register: the kernel reads 32 bits, `mmmM MMmm` in nibbles.
 *
 * @see linux/kdev_t.h new_encode_dev()
 */
export function makedev(major: number, minor: number): Dev {
  return (((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0) as Dev
}

/** @see linux/kdev_t.h new_decode_dev() */
export function major(dev: Dev): number {
  return (dev & 0xfff00) >>> 8
}

/** @see linux/kdev_t.h new_decode_dev() */
export function minor(dev: Dev): number {
  return ((dev & 0xff) | ((dev >>> 12) & 0xfff00)) >>> 0
}

/** linux/major.h: the major number that drivers share which need one device only. */
export const MISC_MAJOR = 10
