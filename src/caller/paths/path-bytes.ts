import type { PathBytes } from '../../abi/brand.ts'

const SLASH = 0x2f
const DOT = Uint8Array.of(0x2e, 0) as PathBytes

/**
 * Splits a path before its last component, as the kernel does for calls that create a file (`LOOKUP_PARENT`). The
 * name keeps its trailing slashes, since the kernel answers differently to them (ENOENT). A path of slashes only gets
 * the name "." (EEXIST either way).
 *
 * @param path NUL-terminated, not empty
 * @param buffer memory that holds the parent until the next call
 * @see linux/fs/namei.c filename_create()
 */
export function splitParent(
  path: PathBytes,
  buffer: Uint8Array,
): { readonly parent: PathBytes; readonly name: PathBytes } {
  const length = path.length - 1
  let end = length
  while (end > 0 && path[end - 1] === SLASH) end--
  if (end === 0) return { parent: path, name: DOT }
  let start = end
  while (start > 0 && path[start - 1] !== SLASH) start--
  return { parent: start === 0 ? DOT : terminated(path, start, buffer), name: path.subarray(start) as PathBytes }
}

/** Tells whether the path has a component `..`. */
export function containsDotDot(path: PathBytes): boolean {
  for (let at = path.indexOf(DOT[0]!); at >= 0; at = path.indexOf(DOT[0]!, at + 1)) {
    const next = path[at + 2]
    const whole = (at === 0 || path[at - 1] === SLASH) && (next === 0 || next === SLASH)
    if (whole && path[at + 1] === DOT[0]) return true
  }
  return false
}

export const isAbsolute = (path: PathBytes): boolean => path[0] === SLASH

/**
 * Copies the first `length` bytes of a path into a buffer that is reused: koffi converts a new array so slowly that
 * it would cost more than everything else about a path.
 */
export function copyPath(bytes: Uint8Array, length: number, buffer: Uint8Array): PathBytes {
  for (let at = 0; at < length; at++) buffer[at] = bytes[at]!
  return buffer.subarray(0, length) as PathBytes
}

function terminated(bytes: Uint8Array, length: number, buffer: Uint8Array): PathBytes {
  const copy = copyPath(bytes, length + 1, buffer)
  copy[length] = 0
  return copy
}
