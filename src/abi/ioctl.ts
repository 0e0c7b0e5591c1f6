const READ = 2
const WRITE = 1

/** @see linux/include/uapi/asm-generic/ioctl.h: direction in bits 30 and 31, size in 16 to 29, type in 8 to 15 */
const ioc = (direction: number, type: number, nr: number, size: number): number =>
  ((direction << 30) | (size << 16) | (type << 8) | nr) >>> 0

export const _IO = (type: number, nr: number): number => ioc(0, type, nr, 0)
export const _IOR = (type: number, nr: number, size: number): number => ioc(READ, type, nr, size)
export const _IOW = (type: number, nr: number, size: number): number => ioc(WRITE, type, nr, size)
export const _IOWR = (type: number, nr: number, size: number): number => ioc(READ | WRITE, type, nr, size)

/** asm-generic/ioctls.h: requests to terminals. */
export const TIOCSWINSZ = 0x5414
/** Unlocks the slave of a pair. */
export const TIOCSPTLCK = 0x40045431
/** Opens the slave of a pair. */
export const TIOCGPTPEER = 0x5441

/** Of tcsetattr(3): after what was written has left. */
export const TCSADRAIN = 1
