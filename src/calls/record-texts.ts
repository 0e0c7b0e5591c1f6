/** The texts of a record: for each 0 u8 index of its argument, and 0x80 if it was cut | 1 u8 length | the bytes. */
export const TEXTS_SIZE = 128
const HEAD = 2
const CUT = 0x80
/** What is left for each of the texts that are still to come. */
const LEAST = 26

interface Registers {
  pointer(index: number): bigint
}

/**
 * Takes those texts of one call that a handler copies out of the caller's memory and that may be recorded. Each text is
 * recorded as it was copied, with the argument that points to it.
 */
export class RecordTexts {
  readonly bytes = Buffer.alloc(TEXTS_SIZE)
  length = 0
  #wanted: readonly number[] = []
  #registers: Registers | undefined
  /** A bit for each argument whose text was taken. */
  #taken = 0
  #left = 0

  /** Begins with another call. @param wanted the arguments whose texts are recorded, in their order */
  begin(wanted: readonly number[], registers: Registers): void {
    this.length = 0
    this.#wanted = wanted
    this.#registers = registers
    this.#taken = 0
    this.#left = wanted.length
  }

  end(): void {
    this.length = 0
    this.#left = 0
  }

  /** Takes a text that was copied from this address, if it is wanted. A string is Latin-1. */
  note(at: bigint, text: Uint8Array | string, isCut = false): void {
    if (this.#left > 0) this.#note(at, text, text.length, isCut)
  }

  /** Takes bytes that were copied without a look at their NUL. */
  noteBytes(at: bigint, bytes: Uint8Array): void {
    if (this.#left === 0) return
    const end = bytes.indexOf(0)
    this.#note(at, bytes, end < 0 ? bytes.length : end, end < 0)
  }

  #note(at: bigint, text: Uint8Array | string, size: number, isCut: boolean): void {
    const index = this.#indexOf(at)
    if (index < 0) return
    this.#taken |= 1 << index
    this.#left--
    const room = Math.max(0, TEXTS_SIZE - this.length - HEAD - this.#left * LEAST)
    const length = Math.min(size, room)
    const { bytes } = this
    bytes[this.length] = index | (isCut || length < size ? CUT : 0)
    bytes[this.length + 1] = length
    const to = this.length + HEAD
    // A loop, for these are few bytes: a view of them costs more than their copy.
    if (typeof text === 'string') bytes.write(text.slice(0, length), to, 'latin1')
    else for (let byte = 0; byte < length; byte++) bytes[to + byte] = text[byte]!
    this.length = to + length
  }

  /** The wanted argument that points there and whose text was not taken; -1 if there is none. */
  #indexOf(at: bigint): number {
    const wanted = this.#wanted
    for (let position = 0; position < wanted.length; position++) {
      const index = wanted[position]!
      if ((this.#taken & (1 << index)) === 0 && this.#registers!.pointer(index) === at) return index
    }
    return -1
  }
}

export interface RecordedText {
  readonly bytes: Uint8Array
  readonly isCut: boolean
}

/** Decodes the texts of a record, by the index of their argument. */
export function decodeTexts(bytes: Uint8Array): ReadonlyMap<number, RecordedText> {
  const texts = new Map<number, RecordedText>()
  for (let at = 0; at + HEAD <= bytes.length; ) {
    const [head, length] = [bytes[at]!, bytes[at + 1]!]
    texts.set(head & ~CUT, { bytes: bytes.slice(at + HEAD, at + HEAD + length), isCut: (head & CUT) !== 0 })
    at += HEAD + length
  }
  return texts
}

/** Returns the texts of these arguments alone, encoded. */
export function onlyTexts(bytes: Uint8Array, wanted: readonly number[]): readonly number[] {
  const kept: number[] = []
  for (let at = 0; at + HEAD <= bytes.length; ) {
    const end = at + HEAD + bytes[at + 1]!
    if (wanted.includes(bytes[at]! & ~CUT)) kept.push(...bytes.subarray(at, end))
    at = end
  }
  return kept
}
