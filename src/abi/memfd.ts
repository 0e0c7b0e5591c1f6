/** linux/memfd.h and linux/fcntl.h: files of memory, and what can be ruled out for them for ever. */
export const MFD_CLOEXEC = 1
export const MFD_ALLOW_SEALING = 2
/** From Linux 6.3 on. */
export const MFD_NOEXEC_SEAL = 8

export const F_ADD_SEALS = 1033
/** No more seals. */
export const F_SEAL_SEAL = 1
export const F_SEAL_SHRINK = 2
export const F_SEAL_GROW = 4
export const F_SEAL_WRITE = 8
