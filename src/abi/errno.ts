import type { Errno } from './brand.ts'

/** Error numbers, asm-generic/errno-base.h and errno.h: the same on x86 and ARM. */
export const errnos = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  ENOTBLK: 15,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EPIPE: 32,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ELOOP: 40,
  ENODATA: 61,
  EOVERFLOW: 75,
  EPROTOTYPE: 91,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  EMSGSIZE: 90,
  ECONNRESET: 104,
  ENOBUFS: 105,
  ETOOMANYREFS: 109,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EINPROGRESS: 115,
  ESTALE: 116,
  EDQUOT: 122,
} as const

export type ErrnoName = keyof typeof errnos

export const errno = (name: ErrnoName): Errno => errnos[name] as Errno

const names = new Map<number, string>(Object.entries(errnos).map(([name, number]) => [number, name]))

/** `EPERM`, or `errno 57` for one without a name here. */
export const errnoName = (number: number): string => names.get(number) ?? `errno ${number}`
