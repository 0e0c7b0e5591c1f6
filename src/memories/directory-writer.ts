import { unspell } from '../calls/spell.ts'
import type { ArgumentMode } from '../policy/config.ts'
import { DIRECTORY_WORD, entryOf, entryText, PLACE_HEAD, type Section, sections } from './directory-layout.ts'

/** The members to leave out of a text that is too long, in this order, until it fits. */
const DISPENSABLE = ['annotations', 'traps', 'warnings', 'idMaps', 'keys', 'message', 'refusals', 'calls']

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

  /** Adds to one of the rings. */
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
  return Buffer.from(JSON.stringify({ cut: ['all'] }))
}
