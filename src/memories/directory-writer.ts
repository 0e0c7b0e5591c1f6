import { unspell } from '../calls/spell.ts'
import type { ArgumentMode } from '../policy/config.ts'
import { DIRECTORY_WORD, entryOf, entryText, PLACE_HEAD, type Section, sections } from './directory-layout.ts'

/** The members that are left out of a text that has no room, in this order, until it has. */
const DISPENSABLE = ['annotations', 'traps', 'warnings', 'idMaps', 'keys', 'message', 'refusals', 'calls']

/**
 * Writes the directory, from which other processes read: who is served, who was, who was refused, and what happened.
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

  /** Says what is known of the container with this number; undefined: nothing any more. */
  container(index: number, about: object | undefined): void {
    const { used } = sections.containers
    if (about) this.#words[used] = Math.max(this.#words[used]!, index + 1)
    this.#write(sections.containers, index, about)
  }

  /** Says nothing of a container any more. */
  clear(index: number): void {
    const { at, size, used } = sections.containers
    if (index < this.#words[used]! && this.#words[(at + index * size) / 4 + 1] !== 0) this.container(index, undefined)
  }

  /** Returns what the previous keeper has said of a container; undefined if that is nothing, or is not whole. */
  before(index: number): Readonly<Record<string, unknown>> | undefined {
    return this.#read(sections.containers, index)
  }

  /** Says what is counted of the daemon itself. */
  daemon(about: object): void {
    this.#words[sections.daemon.used] = 1
    this.#write(sections.daemon, 0, about)
  }

  /** Returns what the previous keeper has counted of itself; undefined if there was none, or it is not whole. */
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

  /** Takes back what is said of the arguments of calls, beyond a mode, of containers that have ended. */
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

  /** Says that the keeper runs, and which processes there are. To be called once a second. */
  beat(engine: number | undefined): void {
    this.#words[DIRECTORY_WORD.keeper] = process.pid
    this.#words[DIRECTORY_WORD.engine] = engine ?? 0
    Atomics.store(this.#words, DIRECTORY_WORD.ended, 0)
    Atomics.add(this.#words, DIRECTORY_WORD.beat, 1)
  }

  /** Says that no other keeper goes on with this directory. */
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
    // Of a longer text that was here before nothing is left to read.
    this.#bytes.subarray(start + PLACE_HEAD + text.length, start + PLACE_HEAD + Math.min(before, size)).fill(0)
    Atomics.store(this.#words, start >> 2, odd + 1)
  }
}

/** Returns the text of something, without the members for which there is no room. */
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
