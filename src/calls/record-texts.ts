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

  /** Begins with another call. @param wanted the arguments whose texts are recorded, in their order */
  begin(wanted: readonly number[], registers: Registers): void {
    this.length = 0
    this.#wanted = wanted
    this.#registers = registers
  }

  end(): void {
    this.length = 0
    this.#wanted = []
  }

  /** Takes a text that was copied from this address, if it is wanted. A string is Latin-1. */
  note(at: bigint, text: Uint8Array | string, isCut = false): void {
    const position = this.#wanted.findIndex((index) => this.#registers!.pointer(index) === at)
    if (position < 0) return
    const [index, left] = [this.#wanted[position]!, this.#wanted.length - 1]
    this.#wanted = this.#wanted.filter((each) => each !== index)
    const room = Math.max(0, TEXTS_SIZE - this.length - HEAD - left * LEAST)
    const length = Math.min(text.length, room)
    this.bytes[this.length] = index | (isCut || length < text.length ? CUT : 0)
    this.bytes[this.length + 1] = length
    const to = this.length + HEAD
    if (typeof text === 'string') this.bytes.write(text.slice(0, length), to, 'latin1')
    else this.bytes.set(text.subarray(0, length), to)
    this.length = to + length
  }

  /** Takes bytes that were copied without a look at their NUL. */
  noteBytes(at: bigint, bytes: Uint8Array): void {
    if (this.#wanted.length === 0) return
    const end = bytes.indexOf(0)
    this.note(at, end < 0 ? bytes : bytes.subarray(0, end), end < 0)
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
