import type { HostId, Mode } from '../../abi/brand.ts'

const NAME_END = 0x29
const SPACE = 0x20
const DIGIT = 0x30

/** Fields of proc_pid_stat(5), counted from the one after the name. */
export const STAT = {
  ...{ state: 0, ppid: 1, group: 2, terminal: 4, foreground: 5 },
  ...{ userTime: 11, systemTime: 12, threads: 17, startTime: 19, resident: 21 },
} as const

/**
 * The words of sh that print what is redirected to them, without another program: for a process of its own that reads
 * `stat`, in which the name may have line feeds.
 */
export const PRINT_INPUT = `while IFS= read -r line; do printf '%s\\n' "$line"; done`

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

type Ids = readonly [real: HostId, effective: HostId, saved: HostId, fs: HostId]

/** Holds the fields of `/proc/TID/status` that a call needs; ids are the host's. */
export interface ProcStatus {
  readonly tgid: number
  readonly umask: Mode
  /** The real, effective, saved and file system ids. */
  readonly uids: Ids
  readonly gids: Ids
  readonly groups: Uint32Array
  readonly effective: bigint
}

/**
 * Maximum number of supplementary groups of a caller. The kernel allows 65,536, but reading them would make each call
 * a thousand times as expensive; directory services give a user fewer (Active Directory: 1,015).
 */
export const GROUPS_LIMIT = 1024
/**
 * Size of the read buffer in bytes: GROUPS_LIMIT groups of ten digits each, plus all other lines, which take 2 KiB at
 * most.
 */
export const STATUS_SIZE = 16 * 1024

/** Says that a task has more supplementary groups than GROUPS_LIMIT. */
export class TooManyGroups extends Error {
  override readonly name = 'TooManyGroups'
}

const NONE = new Uint32Array(0)
const LINE = 0x0a
const LETTER = 0x61 - 10

/**
 * The label with which a line of the file begins, and the offset at which it was last found. Most status files have
 * the same layout up to the lines that are read, so the search usually succeeds at that offset.
 */
class Label {
  readonly codes: readonly number[]
  at = 0

  constructor(name: string) {
    this.codes = [...Buffer.from(`\n${name}:`, 'latin1')]
  }
}

const UMASK = new Label('Umask')
const TGID = new Label('Tgid')
const UID = new Label('Uid')
const GID = new Label('Gid')
const GROUPS = new Label('Groups')
const EFFECTIVE = new Label('CapEff')

/**
 * Parses the bytes of `/proc/TID/status`. Every call reads this file, so the parser does not convert it to a string;
 * it searches for the lines in the order of the file. The process name in the first line cannot forge another line,
 * since the kernel escapes line feeds in it.
 *
 * @param bytes a buffer whose first `length` bytes are the file
 * @throws {TooManyGroups} also if there are so many that the file did not fit into `bytes`
 * @throws {RangeError} if a field is missing
 * @see proc_pid_status(5), linux/fs/proc/array.c task_state()
 */
export function parseStatus(bytes: Uint8Array, length: number): ProcStatus {
  try {
    return parse(new Line(bytes, length))
  } catch (error) {
    throw error instanceof RangeError && length === bytes.length ? new TooManyGroups() : error
  }
}

function parse(line: Line): ProcStatus {
  return {
    umask: line.seek(UMASK).number(8) as Mode,
    tgid: line.seek(TGID).number(10),
    uids: ids(line.seek(UID)),
    gids: ids(line.seek(GID)),
    groups: list(line.seek(GROUPS), GROUPS_LIMIT),
    effective: wide(line.seek(EFFECTIVE)),
  }
}

const ids = (line: Line): Ids =>
  [line.number(10), line.number(10), line.number(10), line.number(10)] as readonly number[] as Ids

function list(line: Line, limit: number): Uint32Array {
  if (line.ended) return NONE
  const numbers: number[] = []
  while (!line.ended) numbers.push(line.number(10))
  if (numbers.length > limit) throw new TooManyGroups()
  return Uint32Array.from(numbers)
}

/**
 * Parses sixteen hexadecimal digits in two halves: the upper half is mostly 0, and both halves are exact as numbers.
 */
function wide(line: Line): bigint {
  const high = line.number(16, 8)
  return (BigInt(high) << 32n) | BigInt(line.number(16))
}

/** Reads the lines of the file, number by number. */
class Line {
  readonly #bytes: Uint8Array
  readonly #length: number
  #at = 0

  constructor(bytes: Uint8Array, length: number) {
    this.#bytes = bytes
    this.#length = length
  }

  /** Moves to the numbers of the line with this label. @throws {RangeError} if the file does not hold the whole line */
  seek(label: Label): this {
    const at = label.at >= this.#at && this.#isAt(label, label.at) ? label.at : this.#find(label)
    label.at = at
    this.#at = at + label.codes.length
    return this
  }

  #find(label: Label): number {
    for (let at = this.#at; at >= 0 && at < this.#length; at = this.#bytes.indexOf(LINE, at + 1)) {
      if (this.#isAt(label, at)) return at
    }
    throw new RangeError(`Cannot read status: no ${String.fromCharCode(...label.codes).trim()}`)
  }

  /**
   * Tells whether a whole line with this label begins at `start`. Bytes behind `length` are left over from another
   * file.
   */
  #isAt({ codes }: Label, start: number): boolean {
    let at = start
    for (const code of codes) if (this.#bytes[at++] !== code) return false
    while (at < this.#length && this.#bytes[at] !== LINE) at++
    return at < this.#length
  }

  /** True if no number is left in this line. */
  get ended(): boolean {
    this.#skip()
    return this.#bytes[this.#at] === LINE
  }

  /** Parses the next number of the line. @param digits the maximum number of digits to take */
  number(base: 8 | 10 | 16, digits = 16): number {
    this.#skip()
    const bytes = this.#bytes
    const end = this.#at + digits
    let at = this.#at
    let value = 0
    for (; at < end && bytes[at]! >= DIGIT; at++) {
      const byte = bytes[at]!
      value = value * base + byte - (byte > LETTER ? LETTER : DIGIT)
    }
    this.#at = at
    return value
  }

  /** Skips blanks and tabs. */
  #skip(): void {
    while (this.#bytes[this.#at] === 0x09 || this.#bytes[this.#at] === 0x20) this.#at++
  }
}

/**
 * Returns one line of `/proc/TID/status`, where speed does not matter; undefined if no whole line has this label.
 *
 * It looks between line feeds, which the kernel escapes in the name of the process. The kernel does not escape a
 * carriage return, which `^` of a regular expression takes for the end of a line too: a container could name a process
 * `\rUid:\t0`.
 *
 * @see linux/fs/proc/array.c proc_task_name()
 */
export function statusField(text: string, label: string): string | undefined {
  const start = `\n${text}`.indexOf(`\n${label}:`)
  const end = start < 0 ? -1 : text.indexOf('\n', start)
  return end < 0 ? undefined : text.slice(start + label.length + 1, end).trim()
}

/** Returns a line of numbers, such as `Uid`, `Groups` or `NSpid`; empty if the line is missing. */
export function statusNumbers(text: string, label: string): readonly number[] {
  const field = statusField(text, label) || undefined
  return field?.split(/\s+/).map(Number) ?? []
}

/** Returns a set of capabilities, such as `CapEff`, as a mask; empty if the line is missing. */
export const statusMask = (text: string, label: string): bigint => BigInt(`0x${statusField(text, label) || '0'}`)
