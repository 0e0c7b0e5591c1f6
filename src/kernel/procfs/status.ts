import type { HostId, Mode } from '../../abi/brand.ts'

type Ids = readonly [real: HostId, effective: HostId, saved: HostId, fs: HostId]

/** What `/proc/TID/status` tells of a thread, in host ids. */
export interface ProcStatus {
  readonly tgid: number
  readonly umask: Mode
  /** Real, effective, saved and file system id. */
  readonly uids: Ids
  readonly gids: Ids
  readonly groups: Uint32Array
  readonly effective: bigint
}

/**
 * How many supplementary groups a caller may have. The kernel allows 65,536, which make each call cost a thousand times as much;
 * what a directory gives a user is less: Active Directory 1,015.
 */
export const GROUPS_LIMIT = 1024
/** As much of the file as is needed with so many groups of ten digits; what lies before and behind them takes 2 KiB at most. */
export const STATUS_SIZE = 16 * 1024

/** Says that a task has more supplementary groups than GROUPS_LIMIT. */
export class TooManyGroups extends Error {
  override readonly name = 'TooManyGroups'
}

const NONE = new Uint32Array(0)
const LINE = 0x0a
const DIGIT = 0x30
const LETTER = 0x61 - 10

/** How a line begins, and where it began the last time: most files are as long as the one before, up to there. */
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
 * Parses `/proc/TID/status` as it was read: every call reads it, so no string is made of it. The lines are searched for in
 * their order. The name in the first one cannot forge another: the kernel escapes line feeds.
 *
 * @param bytes of which the first `length` are the file
 * @throws {TooManyGroups} also if there are so many that the file was longer than `bytes`
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

/** Sixteen hexadecimal digits, in two halves: most of what is set is in the lower one. */
function wide(line: Line): bigint {
  const high = line.number(16, 8)
  return (BigInt(high) << 32n) | BigInt(line.number(16))
}

/** One line of the file, number by number. */
class Line {
  readonly #bytes: Uint8Array
  readonly #length: number
  #at = 0

  constructor(bytes: Uint8Array, length: number) {
    this.#bytes = bytes
    this.#length = length
  }

  /** Goes on to the line with this label. @throws {RangeError} if it is not there as a whole */
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

  /** Does a whole line with this label begin here? What lies behind the file is of another one. */
  #isAt({ codes }: Label, start: number): boolean {
    let at = start
    for (const code of codes) if (this.#bytes[at++] !== code) return false
    while (at < this.#length && this.#bytes[at] !== LINE) at++
    return at < this.#length
  }

  /** No number is left in this line. */
  get ended(): boolean {
    this.#skip()
    return this.#bytes[this.#at] === LINE
  }

  /** The next number. @param digits at most */
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

  /** Over blanks and tabs. */
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
