import { printable } from '../calls/escape.ts'
import type { DaemonTotals } from '../memories/daemon-totals.ts'
import { DIRECTORY_WORD, entryOf, PLACE_HEAD, sections } from '../memories/directory-layout.ts'
import type { MemoryFile } from './memory-file.ts'

/** What the directory says of a container, of one that has ended, of a refused hand-over, or of an event. */
export type Entry = Readonly<Record<string, unknown>>

const HEADER_WORDS = 32
/** In bytes: most places have no more in them. */
const USUAL_SIZE = 3072
/** Of all readers: what is copied is decoded at once. */
const SCRATCH = Buffer.allocUnsafeSlow(USUAL_SIZE)
/** How often a place is copied again that changes meanwhile. */
const TRIES = 10

const LINE_FEED = 10

/** How much of a text: its first line, or all. */
type Part = 'first' | 'all'

function textOf(bytes: Buffer, length: number, part: Part): string {
  const text = bytes.subarray(PLACE_HEAD, PLACE_HEAD + length)
  const end = part === 'first' ? text.indexOf(LINE_FEED) : -1
  return text.toString('utf8', 0, end < 0 ? length : end)
}

/** Members that are shown escaped everywhere: they are as containers and runtimes have chosen them. */
const RAW: ReadonlySet<string> = new Set([
  ...['id', 'name', 'image', 'namespace', 'pod', 'bundle', 'cgroup', 'runtime', 'keys', 'annotations', 'traps'],
  ...['withheld', 'warnings', 'set', 'barred', 'cut', 'message', 'version', 'configPath'],
])

function printableIn(value: unknown): unknown {
  if (typeof value === 'string') return printable(value)
  if (Array.isArray(value)) return value.map(printableIn)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [printable(name), printableIn(member)]))
}

/**
 * Makes sure that members which are shown as they are can be shown so. The directory of our daemon has them as numbers
 * or as escaped texts. The directory of somebody else's daemon may have anything.
 */
const shownAsTheyAre = (entry: Entry): Entry =>
  Object.fromEntries(
    Object.entries(entry).map(([name, value]) => [printable(name), RAW.has(name) ? value : printableIn(value)]),
  )

/** Reads the directory from its memory. */
export class DirectoryReader {
  readonly #memory: MemoryFile

  constructor(memory: MemoryFile) {
    this.#memory = memory
  }

  #word(word: number): number {
    return this.#memory.word(4 * word)
  }

  /** The containers that are served. */
  get containers(): readonly Entry[] {
    return this.#all('containers', [...Array(this.usedContainers).keys()])
  }

  /** The same one after the other, and of each only what a list needs. */
  *briefContainers(): Generator<Entry> {
    const { usedContainers } = this
    for (let index = 0; index < usedContainers; index++) {
      const entry = this.#place('containers', index, 'first')
      if (entry) yield entry
    }
  }

  /** The container that is served at a place. */
  container(index: number): Entry | undefined {
    return this.#place('containers', index)
  }

  /** The last ones, oldest first. @param from the number of the first that is wanted */
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

  /** What the daemon counts of itself; nothing before its first second. */
  get daemon(): Partial<DaemonTotals> {
    return this.#place('daemon', 0) ?? {}
  }

  /** How many places of containers were ever used. */
  get usedContainers(): number {
    return this.#word(sections.containers.used)
  }

  /** The number of the oldest event that is there. */
  get oldestEvent(): number {
    return Math.max(0, this.nextEvent - sections.events.places)
  }

  /** The number of the next event. */
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
      if (isWhole) return length === 0 ? undefined : shownAsTheyAre(entryOf(textOf(whole, length, part)))
    }
    return undefined
  }
}
