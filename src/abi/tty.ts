/** asm-generic/ioctls.h: requests to terminals. */
export const TIOCSWINSZ = 0x5414
/** Unlocks the slave of a pair. */
export const TIOCSPTLCK = 0x40045431
/** Opens the slave of a pair. */
export const TIOCGPTPEER = 0x5441

/** Of tcsetattr(3): after what was written has left. */
export const TCSADRAIN = 1
