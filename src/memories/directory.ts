import { unspell } from '../calls/spell.ts'
import type { ArgumentMode } from '../policy/config.ts'
import { struct } from '../shared/words.ts'

/** A part of the directory: places of one size, each of which holds a text of JSON. */
interface Section {
  readonly at: number
  readonly places: number
  readonly size: number
  /** The header's word with the number of places that were ever used. */
  readonly used: number
}

export const DIRECTORY_LAYOUT = 2
const HEADER = 4096
export const [DIRECTORY_WORD] = struct({
  ...{ layout: 1, size: 1, keeper: 1, engine: 1 },
  /** Raised once a second while the keeper runs. */
  beat: 1,
  /** 1 once the daemon has ended for good. */
  ended: 1,
  ...{ usedContainers: 1, usedEnded: 1, usedRefused: 1, usedEvents: 1, usedDaemon: 1 },
})

const KIB = 1024
const containers = { at: HEADER, places: 1024, size: 16 * KIB, used: DIRECTORY_WORD.usedContainers }
const endOf = ({ at, places, size }: Omit<Section, 'used'>): number => at + places * size
const ended = { at: endOf(containers), places: 256, size: 16 * KIB, used: DIRECTORY_WORD.usedEnded }
const refused = { at: endOf(ended), places: 64, size: 2 * KIB, used: DIRECTORY_WORD.usedRefused }
const events = { at: endOf(refused), places: 256, size: 2 * KIB, used: DIRECTORY_WORD.usedEvents }
const daemon = { at: endOf(events), places: 1, size: 4 * KIB, used: DIRECTORY_WORD.usedDaemon }

/**
 * Containers are ordered by number. The daemon has one place, for its own counters. The other sections are rings: ended
 * containers, refused hand-overs, and the last events.
 */
export const sections = { containers, ended, refused, events, daemon } as const satisfies Readonly<
  Record<string, Section>
>
export const DIRECTORY_SIZE = endOf(daemon)
/** The types of events of the daemon, in the ring and in history. */
export const EVENT_TYPES = [
  ...['registered', 'resumed', 'ended', 'set', 'stopOrdered', 'reloadOrdered', 'reloaded', 'notReloaded'],
  ...['started', 'restarted', 'stopped', 'engineStarted', 'engineEnded', 'refused', 'fault', 'program'],
  ...['recordsLost', 'historyLost'],
] as const
export type EventType = (typeof EVENT_TYPES)[number]
/** A place begins with its version, odd while it is written, and the length of its text in bytes. */
export const PLACE_HEAD = 8
/**
 * The first line has what a list of containers needs: reading everything of a thousand containers takes five times as
 * long.
 */
const BRIEF: ReadonlySet<string> = new Set([
  ...[
    'id',
    'index',
    'serial',
    'runtime',
    'name',
    'image',
    'namespace',
    'pod',
    'labels',
    'command',
    'bundle',
    'init',
    'since',
    'on',
    'barred',
    'observes',
    'listeners',
  ],
])

/** Returns the text of a place: the JSON of one or two objects, each in its own line. */
function entryText(about: object): string {
  const [brief, rest] = [true, false].map((is) => Object.entries(about).filter(([name]) => BRIEF.has(name) === is))
  return [brief!, rest!].map((some) => JSON.stringify(Object.fromEntries(some))).join('\n')
}

/** Reads the text of a place, or only its first line. */
export const entryOf = (text: string): Readonly<Record<string, unknown>> =>
  Object.assign({}, ...text.split('\n').map((line) => JSON.parse(line) as object))

export function formatDirectory(memory: ArrayBuffer): void {
  const words = new Int32Array(memory, 0, HEADER / 4)
  words[DIRECTORY_WORD.layout] = DIRECTORY_LAYOUT
  words[DIRECTORY_WORD.size] = DIRECTORY_SIZE
}

export const isDirectory = (memory: ArrayBuffer): boolean =>
  memory.byteLength === DIRECTORY_SIZE && isDirectoryHead(new Int32Array(memory, 0, HEADER / 4))

/** @param words the first words of a memory */
export const isDirectoryHead = (words: Int32Array): boolean =>
  words[DIRECTORY_WORD.layout] === DIRECTORY_LAYOUT && words[DIRECTORY_WORD.size] === DIRECTORY_SIZE

/** The members to leave out of a text that is too long, in this order, until it fits. */
const DISPENSABLE = [
  'labels',
  'annotations',
  'ignored',
  'traps',
  'warnings',
  'idMaps',
  'keys',
  'message',
  'refusals',
  'calls',
  'notReloaded',
  'historyFlaw',
]

/** The members that say which container or event it is: these stay when nothing else has room. */
const IDENTITY = new Set([
  'number',
  'time',
  'type',
  'id',
  'index',
  'serial',
  'init',
  'since',
  'ended',
  'runtime',
  'on',
  'observes',
  'barred',
  'listeners',
])

/**
 * Writes the directory, from which other processes read: served containers, ended ones, refused hand-overs, and events.
 *
 * Invariant: the version of a place is odd while its text changes, so a reader whose copy has the same even version
 * before and after has a whole text. Precondition: only one thread of one process, the keeper, writes.
 */
export class DirectoryWriter {
  readonly #words: Int32Array
  readonly #bytes: Uint8Array

  constructor(memory: ArrayBuffer) {
    this.#words = new Int32Array(memory)
    this.#bytes = new Uint8Array(memory)
  }

  /** Writes the entry of the container with this number; undefined removes it. */
  container(index: number, about: object | undefined): void {
    const { used } = sections.containers
    if (about) this.#words[used] = Math.max(this.#words[used]!, index + 1)
    this.#write(sections.containers, index, about)
  }

  /** Removes the entry of a container. */
  clear(index: number): void {
    const { at, size, used } = sections.containers
    if (index < this.#words[used]! && this.#words[(at + index * size) / 4 + 1] !== 0) this.container(index, undefined)
  }

  /** Returns the previous keeper's entry of a container; undefined if there is none, or it is incomplete. */
  before(index: number): Readonly<Record<string, unknown>> | undefined {
    return this.#read(sections.containers, index)
  }

  /** Writes the daemon's own counters. */
  daemon(about: object): void {
    this.#words[sections.daemon.used] = 1
    this.#write(sections.daemon, 0, about)
  }

  /** Returns the previous keeper's own counters; undefined if there are none, or they are incomplete. */
  get daemonBefore(): Readonly<Record<string, unknown>> | undefined {
    return this.#read(sections.daemon, 0)
  }

  #read({ at, size }: Section, place: number): Readonly<Record<string, unknown>> | undefined {
    const start = at + place * size
    if ((this.#words[start >> 2]! & 1) === 1) return undefined
    const length = this.#words[(start >> 2) + 1]!
    const text = Buffer.from(this.#bytes.buffer as ArrayBuffer, start + PLACE_HEAD, length).toString()
    return text === '' ? undefined : entryOf(text)
  }

  /** Erases arguments of calls that a mode does not allow from the entries of ended containers. */
  forgetArguments(mode: ArgumentMode): void {
    const section = sections.ended
    const used = Math.min(this.#words[section.used]!, section.places)
    for (let place = 0; mode !== 'all' && place < used; place++) {
      const { refusals, ...about } = this.#read(section, place) ?? {}
      if (!Array.isArray(refusals)) continue
      const rest = refusals.map(({ call, ...each }) => ({ ...each, call: unspell(`${call}`, mode) }))
      this.#write(section, place, { ...about, refusals: rest })
    }
  }

  add(ring: 'ended' | 'refused' | 'events', about: object): void {
    const section = sections[ring]
    const number = this.#words[section.used]!
    this.#write(section, number % section.places, { number, ...about })
    Atomics.store(this.#words, section.used, number + 1)
  }

  /** Writes that the keeper runs, and its processes. To be called once a second. */
  beat(engine: number | undefined): void {
    this.#words[DIRECTORY_WORD.keeper] = process.pid
    this.#words[DIRECTORY_WORD.engine] = engine ?? 0
    Atomics.store(this.#words, DIRECTORY_WORD.ended, 0)
    Atomics.add(this.#words, DIRECTORY_WORD.beat, 1)
  }

  /** Writes that no other keeper continues with this directory. */
  end(): void {
    Atomics.store(this.#words, DIRECTORY_WORD.ended, 1)
  }

  #write({ at, size }: Section, place: number, about: object | undefined): void {
    const start = at + place * size
    const text = about ? fitting(about, size - PLACE_HEAD) : new Uint8Array()
    // The previous keeper may have ended in the middle of this.
    const odd = this.#words[start >> 2]! | 1
    Atomics.store(this.#words, start >> 2, odd)
    // On arm64 only a load keeps the plain stores that follow behind the mark.
    Atomics.load(this.#words, start >> 2)
    const before = this.#words[(start >> 2) + 1]!
    this.#words[(start >> 2) + 1] = text.length
    this.#bytes.set(text, start + PLACE_HEAD)
    // Nothing remains readable of a longer text that was here before.
    this.#bytes.subarray(start + PLACE_HEAD + text.length, start + PLACE_HEAD + Math.min(before, size)).fill(0)
    Atomics.store(this.#words, start >> 2, odd + 1)
  }
}

/** Returns the text of an object, without the members that do not fit. */
function fitting(about: object, room: number): Uint8Array {
  const rest: Record<string, unknown> = { ...about }
  for (const name of [undefined, ...DISPENSABLE]) {
    if (name !== undefined) {
      if (rest[name] === undefined) continue
      delete rest[name]
      rest.cut = [...((rest.cut as string[] | undefined) ?? []), name]
    }
    const text = Buffer.from(entryText(rest))
    if (text.length <= room) return text
  }
  const only = (isKept: (member: [string, unknown]) => boolean): Uint8Array =>
    Buffer.from(entryText({ ...Object.fromEntries(Object.entries(about).filter(isKept)), cut: ['all'] }))
  const identity = only(([name]) => IDENTITY.has(name))
  return identity.length <= room ? identity : only(([, value]) => typeof value === 'number')
}
