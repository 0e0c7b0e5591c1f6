import type { Tid } from '../abi/brand.ts'
import { syscallName } from '../abi/syscalls.ts'
import type { ArgumentMode } from '../policy/config.ts'
import { textsOf } from './arguments.ts'
import { escaped } from './escape.ts'
import { type Reason, type ReasonCode, reasonCodes } from './reasons.ts'

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
function onlyTexts(bytes: Uint8Array, wanted: readonly number[]): readonly number[] {
  const kept: number[] = []
  for (let at = 0; at + HEAD <= bytes.length; ) {
    const end = at + HEAD + bytes[at + 1]!
    if (wanted.includes(bytes[at]! & ~CUT)) kept.push(...bytes.subarray(at, end))
    at = end
  }
  return kept
}

/**
 * The outcome of one call, as the engine's threads write it into a ring in shared memory.
 *
 *   0 u32 sequence + 1 (written last) | 4 u32 container | 8 u32 serial | 12 s32 nr | 16 u32 arch | 20 u32 tid |
 *   24 u16 errno | 26 u8 verdict | 27 u8 1 if there are registers | 28 u16 reason | 30 u16 length of texts |
 *   32 u32 a | 36 u32 b | 40 f32 microseconds | 44 s32 writer: 1 while a thread writes here |
 *   48 f64 time (milliseconds since 1970) | 56 u32 number of the thread in the container, 0 if unknown |
 *   60 u8 1 if there is a name, u8 its length | 62 u16 - | 64 u8[16] name of the thread | 80 u64[6] registers |
 *   128 u8[128] texts (record-texts.ts)
 */
export const RECORD_SIZE = 256
/** The offset of `writer`. */
export const RECORD_WRITER = 44
/** The offset of the registers; the numbers that say what was done lie before them. */
const RECORD_ARGS = 80
export const RECORD_FIXED = RECORD_ARGS
/** Six registers of 64 bits, in words of 32. */
const ARGS_WORDS = 12
const HAS_ARGS = 27
const TEXTS_LENGTH = 30
const PID = 56
const HAS_COMM = 60
const COMM_LENGTH = 61
const COMM = 64
/** The size of the name of a thread, in bytes: the kernel's TASK_COMM_LEN, with a NUL. */
export const COMM_SIZE = 16
const RECORD_TEXTS = 128

export const verdicts = ['continue', 'errno', 'act', 'gone'] as const
export type VerdictName = (typeof verdicts)[number]

export type Word = 'done' | 'left' | 'error' | 'gone'
/** What is said of a verdict outside this program: by commands, the log, history, metrics and the API. */
export const WORDS: Readonly<Record<VerdictName, Word>> = {
  act: 'done',
  continue: 'left',
  errno: 'error',
  gone: 'gone',
}

export interface CallRecord {
  /** The keeper's number of the container, which a later container may have again. */
  readonly container: number
  /** The number that no other container has: see `Container`. */
  readonly serial: number
  readonly nr: number
  readonly arch: number
  readonly tid: Tid
  readonly verdict: VerdictName
  /** 0 for success, and for `continue`, since the kernel runs the call afterwards. */
  readonly errno: number
  readonly reason: ReasonCode
  readonly a: number
  readonly b: number
  /** The number of the thread in the pid namespace of the container's init; absent if it is not known. */
  readonly pid?: number
  /** The name of the thread, each byte a character of Latin-1; absent if the caller was not looked at. */
  readonly comm?: string
  /** The time from receipt to answer. */
  readonly microseconds: number
  readonly time: number
}

export const reasonOf = ({ reason, a, b }: CallRecord): Reason => ({ code: reason, a, b })

export const verdictIndex = new Map(verdicts.map((name, index) => [name, index]))
export const reasonIndex = new Map(reasonCodes.map((code, index) => [code, index]))
/** A digest (FNV-1a) of all codes, in their order: memories have indices, which mean others to another version. */
export const CODES = [...reasonCodes.join()].reduce(
  (sum, each) => Math.imul(sum ^ each.charCodeAt(0), 0x0100_0193),
  0x811c_9dc5 | 0,
)

/**
 * Returns what is said of a call, as numbers: two calls for which they are the same are of one kind. Sentences about a
 * call depend on nothing else.
 */
export const kindOf = ({ arch, nr, verdict, errno, reason, a, b }: CallRecord): readonly number[] => [
  ...[arch, nr, verdictIndex.get(verdict)!, errno],
  ...[reasonIndex.get(reason)!, a, b],
]

/** Encodes the numbers of a record. The ring itself writes sequence and writer. */
export function encodeRecord(view: DataView, at: number, record: CallRecord): void {
  view.setUint32(at + 4, record.container, true)
  view.setUint32(at + 8, record.serial, true)
  view.setInt32(at + 12, record.nr, true)
  view.setUint32(at + 16, record.arch, true)
  view.setUint32(at + 20, record.tid, true)
  view.setUint16(at + 24, record.errno, true)
  view.setUint8(at + 26, verdictIndex.get(record.verdict)!)
  view.setUint8(at + HAS_ARGS, 0)
  view.setUint16(at + 28, reasonIndex.get(record.reason)!, true)
  view.setUint16(at + TEXTS_LENGTH, 0, true)
  view.setUint32(at + PID, 0, true)
  view.setUint32(at + HAS_COMM, 0, true)
  view.setUint32(at + 32, record.a, true)
  view.setUint32(at + 36, record.b, true)
  view.setFloat32(at + 40, record.microseconds, true)
  view.setFloat64(at + 48, record.time, true)
}

/** Decodes a record. An unknown verdict or reason, which only a fault of ours could have written, becomes 'fault'. */
export function decodeRecord(view: DataView, at: number): CallRecord {
  const pid = view.getUint32(at + PID, true)
  return {
    container: view.getUint32(at + 4, true),
    serial: view.getUint32(at + 8, true),
    nr: view.getInt32(at + 12, true),
    arch: view.getUint32(at + 16, true),
    tid: view.getUint32(at + 20, true) as Tid,
    errno: view.getUint16(at + 24, true),
    verdict: verdicts[view.getUint8(at + 26)] ?? 'gone',
    reason: reasonCodes[view.getUint16(at + 28, true)] ?? 'fault',
    a: view.getUint32(at + 32, true),
    b: view.getUint32(at + 36, true),
    microseconds: view.getFloat32(at + 40, true),
    time: view.getFloat64(at + 48, true),
    ...(pid === 0 ? undefined : { pid }),
    ...(view.getUint8(at + HAS_COMM) === 0 ? undefined : { comm: commIn(view, at) }),
  }
}

function commIn(view: DataView, at: number): string {
  let comm = ''
  const length = Math.min(view.getUint8(at + COMM_LENGTH), COMM_SIZE - 1)
  for (let byte = 0; byte < length; byte++) comm += String.fromCharCode(view.getUint8(at + COMM + byte))
  return comm
}

/** Shows the name of the thread that made a call, which has chosen it. */
const shownComm = (comm: string): string => escaped(Buffer.from(comm, 'latin1'))

/** Returns who made a call, as far as it is known; the name is escaped. */
export const callerOf = ({ pid, comm }: CallRecord): { readonly pid?: number; readonly comm?: string } => ({
  ...(pid === undefined ? undefined : { pid }),
  ...(comm === undefined ? undefined : { comm: shownComm(comm) }),
})

/** What a call was made with, in memory: its registers, and texts that were copied. */
export interface RecordedArguments {
  /** The memory with the registers, and the index of their first word; undefined if they are not to be recorded. */
  registers: Int32Array | undefined
  from: number
  readonly texts: { readonly bytes: Uint8Array; readonly length: number }
  readonly caller?: RecordedCaller
}

/** Who made a call, if that is known. */
interface RecordedCaller {
  readonly isKnown: boolean
  readonly pid: number
  readonly comm: Uint8Array
  readonly length: number
}

/** Adds the arguments to a record that was encoded before. @param words the memory of `view` */
export function encodeArguments(view: DataView, words: Int32Array, at: number, args: RecordedArguments): void {
  const { registers, from, texts, caller } = args
  if (registers) {
    view.setUint8(at + HAS_ARGS, 1)
    const first = (at + RECORD_ARGS) >> 2
    for (let word = 0; word < ARGS_WORDS; word++) words[first + word] = registers[from + word]!
  }
  if (caller?.isKnown) encodeCaller(view, at, caller)
  if (texts.length === 0) return
  view.setUint16(at + TEXTS_LENGTH, texts.length, true)
  for (let byte = 0; byte < texts.length; byte++) view.setUint8(at + RECORD_TEXTS + byte, texts.bytes[byte]!)
}

function encodeCaller(view: DataView, at: number, { pid, comm, length }: RecordedCaller): void {
  view.setUint32(at + PID, pid, true)
  view.setUint8(at + HAS_COMM, 1)
  view.setUint8(at + COMM_LENGTH, length)
  for (let byte = 0; byte < length; byte++) view.setUint8(at + COMM + byte, comm[byte]!)
}

/** Returns the registers of a record; undefined if they were not recorded. */
export const registersOf = (view: DataView, at: number): readonly bigint[] | undefined =>
  view.getUint8(at + HAS_ARGS) === 0
    ? undefined
    : Array.from({ length: 6 }, (_, index) => view.getBigUint64(at + RECORD_ARGS + 8 * index, true))

/** Returns the texts of a record, as `decodeTexts` takes them. */
export const textsIn = (view: DataView, at: number): Uint8Array => {
  const length = Math.min(view.getUint16(at + TEXTS_LENGTH, true), RECORD_SIZE - RECORD_TEXTS)
  return new Uint8Array(view.buffer, view.byteOffset + at + RECORD_TEXTS, length).slice()
}

/** Takes back what a record has of the arguments beyond a mode, and what an earlier record has left in its place. */
export function forgetArguments(view: DataView, at: number, mode: ArgumentMode): void {
  if (mode === 'all') return
  const texts = textsIn(view, at)
  new Uint8Array(view.buffer, view.byteOffset + at + RECORD_TEXTS, RECORD_SIZE - RECORD_TEXTS).fill(0)
  view.setUint16(at + TEXTS_LENGTH, 0, true)
  if (mode === 'none') {
    view.setUint8(at + HAS_ARGS, 0)
    for (let word = 0; word < ARGS_WORDS; word++) view.setUint32(at + RECORD_ARGS + 4 * word, 0, true)
    return
  }
  const name = syscallName(view.getUint32(at + 16, true), view.getInt32(at + 12, true))
  const kept = onlyTexts(texts, name === undefined ? [] : textsOf(name, mode))
  for (const [index, byte] of kept.entries()) view.setUint8(at + RECORD_TEXTS + index, byte)
  view.setUint16(at + TEXTS_LENGTH, kept.length, true)
}

/**
 * Reasons of calls that are left to the kernel by design: a filter traps them as it cannot read memory, or the caller
 * has on the host what the kernel asks for.
 */
const ORDINARY: ReadonlySet<ReasonCode> = new Set([
  'hostCapability',
  'attributeOfAll',
  'attributeAbsent',
  'limitNotRaised',
  'kernelMakesWhiteouts',
  'kernelMountsIt',
  'changesMounts',
  'foreignContext',
  'foreignMount',
  'contextTold',
  'tokenDecides',
  'fuseByMount',
])

/** Tells whether the caller did not get what it asked for, or only what the kernel gives it without us. */
export const isRefusal = ({ verdict, errno, reason }: CallRecord): boolean =>
  verdict === 'act' ? errno !== 0 : verdict !== 'gone' && !ORDINARY.has(reason)
