/** linux/xattr.h: flags of setxattr(2). */
export const XATTR_CREATE = 1
export const XATTR_REPLACE = 2
/** linux/limits.h: the longest name, without its NUL. */
export const XATTR_NAME_MAX = 255
/** linux/limits.h: the longest value, and the longest list of names, that the kernel hands out. */
export const XATTR_SIZE_MAX = 65536
export const XATTR_LIST_MAX = 65536

/** The size of `struct xattr_args` of setxattrat(2) and getxattrat(2) in 6.13; later it may be longer, with zeros. */
export const XATTR_ARGS_SIZE = 16
/** Larger ones the kernel does not even read. */
export const XATTR_ARGS_LIMIT = 4096

/** `struct xattr_args`: 0 u64 value | 8 u32 size | 12 u32 flags; the same for 32-bit programs. */
export interface XattrArgs {
  readonly value: bigint
  readonly size: number
  readonly flags: number
}

/** @throws {RangeError} if there are fewer than 16 bytes */
export function decodeXattrArgs(bytes: Uint8Array): XattrArgs {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return { value: view.getBigUint64(0, true), size: view.getUint32(8, true), flags: view.getUint32(12, true) }
}
