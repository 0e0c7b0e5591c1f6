import { readSync } from 'node:fs'
import { printable } from '../calls/escape.ts'
import type { Fd } from '../kernel/fd.ts'
import type { DaemonTotals } from '../memories/daemon-totals.ts'
import { DIRECTORY_WORD, entryOf, PLACE_HEAD, sections } from '../memories/directory.ts'

/** A memory of the daemon that we can only read: each copy is a pread(2), for which no writer waits. */
export class MemoryFile {
  readonly #fd: Fd
  readonly #word = new Int32Array(1)

  constructor(fd: Fd) {
    this.#fd = fd
  }

  /**
   * Copies `length` bytes from `at`; bytes beyond the end are zero.
   *
   * @param into the target; a new buffer for each of many copies would be much work for the garbage collector
   */
  copy(at: number, length: number, into?: Buffer): DataView {
    const bytes = into ?? Buffer.allocUnsafeSlow(length)
    for (let done = 0; done < length; ) {
      const read = readSync(this.#fd.raw, bytes, done, length - done, at + done)
      if (read === 0) return new DataView(bytes.fill(0, done).buffer, 0, length)
      done += read
    }
    return new DataView(bytes.buffer, 0, length)
  }

  word(at: number): number {
    readSync(this.#fd.raw, this.#word, 0, 4, at)
    return this.#word[0]!
  }

  words(at: number, count: number): Int32Array {
    return new Int32Array(this.copy(at, 4 * count).buffer)
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]()
  }
}

/** An entry of the directory: a container, an ended one, a refused hand-over, or an event. */
export type Entry = Readonly<Record<string, unknown>>

const HEADER_WORDS = 32
/** In bytes: most entries are not longer. */
const USUAL_SIZE = 3072
/** One buffer for all readers: each copy is decoded at once. */
const SCRATCH = Buffer.allocUnsafeSlow(USUAL_SIZE)
/** How often a place is copied again if it changes meanwhile. */
const TRIES = 10

const LINE_FEED = 10

/** How much of a text to read: its first line, or all. */
type Part = 'first' | 'all'

function textOf(bytes: Buffer, length: number, part: Part): string {
  const text = bytes.subarray(PLACE_HEAD, PLACE_HEAD + length)
  const end = part === 'first' ? text.indexOf(LINE_FEED) : -1
  return text.toString('utf8', 0, end < 0 ? length : end)
}

/** Members that are escaped wherever they are shown: containers and runtimes have chosen them. */
const RAW: ReadonlySet<string> = new Set([
  ...['id', 'name', 'image', 'namespace', 'pod', 'labels', 'command', 'profile', 'bundle'],
  ...['cgroup', 'runtime', 'keys', 'annotations', 'traps', 'withheld', 'warnings', 'ignored', 'set', 'barred', 'cut'],
  ...['message', 'version', 'configPath', 'history', 'historyFlaw', 'notReloaded'],
])

function printableIn(value: unknown): unknown {
  if (typeof value === 'string') return printable(value)
  if (Array.isArray(value)) return value.map(printableIn)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [printable(name), printableIn(member)]))
}

/**
 * Makes sure that all other members are safe to show unescaped. In our daemon's directory they are numbers or escaped
 * texts. Another daemon's directory may contain anything.
 */
export const escapeOtherMembers = (entry: Entry): Entry =>
  Object.fromEntries(
    Object.entries(entry).map(([name, value]) => [printable(name), RAW.has(name) ? value : printableIn(value)]),
  )

export class DirectoryReader {
  readonly #memory: MemoryFile

  constructor(memory: MemoryFile) {
    this.#memory = memory
  }

  #word(word: number): number {
    return this.#memory.word(4 * word)
  }

  get containers(): readonly Entry[] {
    return this.#all('containers', [...Array(this.usedContainers).keys()])
  }

  /** The same one after the other, each only with what a list needs. */
  *briefContainers(): Generator<Entry> {
    const { usedContainers } = this
    for (let index = 0; index < usedContainers; index++) {
      const entry = this.#place('containers', index, 'first')
      if (entry) yield entry
    }
  }

  container(index: number): Entry | undefined {
    return this.#place('containers', index)
  }

  /** The last entries, oldest first. @param from the number of the first wanted entry */
  ring(name: 'ended' | 'refused' | 'events', from = 0): readonly Entry[] {
    const { places, used } = sections[name]
    const end = this.#word(used)
    const first = Math.max(from, end - places)
    const entries = this.#all(
      name,
      Array.from({ length: Math.max(0, end - first) }, (_, index) => (first + index) % places),
    )
    return entries.sort((one, other) => Number(one.number) - Number(other.number))
  }

  /** The daemon's own counters; nothing in its first second. */
  get daemon(): Partial<DaemonTotals> {
    return this.#place('daemon', 0) ?? {}
  }

  /** How many containers' places were ever used. */
  get usedContainers(): number {
    return this.#word(sections.containers.used)
  }

  /** The number of the oldest event that still exists. */
  get oldestEvent(): number {
    return Math.max(0, this.nextEvent - sections.events.places)
  }

  get nextEvent(): number {
    return this.#word(DIRECTORY_WORD.usedEvents)
  }

  /** Whether the keeper has ended for good, and a number that it raises once a second. */
  get state(): { readonly ended: boolean; readonly beat: number; readonly keeper: number; readonly engine: number } {
    const words = this.#memory.words(0, HEADER_WORDS)
    const { ended, beat, keeper, engine } = DIRECTORY_WORD
    return { ended: words[ended] === 1, beat: words[beat]!, keeper: words[keeper]!, engine: words[engine]! }
  }

  #all(name: keyof typeof sections, places: readonly number[]): Entry[] {
    return places.map((place) => this.#place(name, place)).filter((each) => each !== undefined)
  }

  #place(name: keyof typeof sections, index: number, part: Part = 'all'): Entry | undefined {
    const { at, size } = sections[name]
    const start = at + index * size
    for (let tries = 0; tries < TRIES; tries++) {
      const copy = this.#memory.copy(start, Math.min(size, USUAL_SIZE), SCRATCH)
      const [version, length] = [copy.getInt32(0, true), Math.max(0, copy.getInt32(4, true))]
      const isAll = PLACE_HEAD + length <= copy.byteLength
      const whole = isAll ? SCRATCH : Buffer.from(this.#memory.copy(start, size).buffer)
      const isWhole = (version & 1) === 0 && this.#memory.word(start) === version
      if (isWhole) return length === 0 ? undefined : escapeOtherMembers(entryOf(textOf(whole, length, part)))
    }
    return undefined
  }
}
