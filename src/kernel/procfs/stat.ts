const NAME_END = 0x29
const SPACE = 0x20
const DIGIT = 0x30

/** Fields of proc_pid_stat(5), counted from the one after the name. */
export const STAT = { state: 0, ppid: 1, group: 2, foreground: 5, userTime: 11, systemTime: 12, startTime: 19 } as const

/**
 * Returns the offset of a field of `/proc/TID/stat`. The name before the fields may contain anything, even a
 * parenthesis or a line feed, but no field after it has a parenthesis.
 *
 * @param bytes of which the first `length` are the file
 * @throws {RangeError} if the file ends before
 */
export function statFieldAt(bytes: Uint8Array, length: number, field: number): number {
  const name = length === 0 ? -1 : bytes.lastIndexOf(NAME_END, length - 1)
  let at = name < 0 ? length : name + 2
  for (let skipped = 0; skipped < field && at < length; skipped++) at = bytes.indexOf(SPACE, at) + 1 || length
  if (at >= length) throw new RangeError('Cannot read stat: it ends too soon')
  return at
}

/** Returns a number that is not the last field. @throws {RangeError} if the file ends before the field or within it */
export function statNumber(bytes: Uint8Array, length: number, field: number): number {
  let at = statFieldAt(bytes, length, field)
  let value = 0
  for (; at < length && bytes[at]! >= DIGIT; at++) value = value * 10 + bytes[at]! - DIGIT
  if (at >= length) throw new RangeError('Cannot read stat: it ends too soon')
  return value
}

/** Returns the state of the task as the letter of proc_pid_stat(5). @throws {RangeError} if the file ends before it */
export const statState = (bytes: Uint8Array, length: number): string =>
  String.fromCharCode(bytes[statFieldAt(bytes, length, STAT.state)]!)
