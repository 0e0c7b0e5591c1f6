import { type CallRecord, decodeRecord, registersOf, textsIn, timeIn, verdicts } from '../calls/record.ts'
import { type CallKind, decodeCallKey } from './call-key.ts'
import {
  BOUNDS,
  HEAD_SIZE,
  HEAD_WORD,
  KIND_SIZE,
  KIND_WORD,
  KINDS,
  REFUSAL_HEAD,
  REFUSAL_SIZE,
  REFUSAL_WORD,
  REFUSALS,
  REFUSALS_AT,
} from './counts-layout.ts'
import { OTHERS } from './kind-places.ts'

/** How often calls of one kind were made, and how long they took. */
export interface CallCount extends CallKind {
  readonly calls: number
  /** The sum of the durations. */
  readonly microseconds: number
  /** How many took at most as long as the bound with the same index in `BOUNDS`, and longer than the bound before. */
  readonly buckets: readonly number[]
}

/** The last refused call of a kind, and how many there were. */
export interface RefusalCount {
  readonly count: number
  readonly record: CallRecord
  /** The registers of the call; undefined if they are not recorded. */
  readonly args: readonly bigint[] | undefined
  readonly texts: Uint8Array
}

export interface ContainerCounts {
  readonly serial: number
  readonly inFlight: number
  /** Those of them that are served for longer than ten seconds. */
  readonly stuck: number
  /** Descriptors that are kept for the container: contexts, mounts, programs. */
  readonly kept: number
  readonly calls: readonly CallCount[]
  readonly refusals: readonly RefusalCount[]
}

const WORD = 2 ** 32
const TENTHS = 10

/** Copies a part of the place of a container, from `at` on. */
export type CopyPlace = (at: number, length: number) => DataView

/** Which kinds of refusals are wanted: all, or that of the last refused call only, since most are never looked at. */
export type WhichRefusals = 'all' | 'last'

/** Reads the place of a container. A refusal that is written meanwhile is left out. */
export function readCounts(copy: CopyPlace, which: WhichRefusals = 'all'): ContainerCounts {
  const place = copy(0, REFUSALS_AT)
  const hasRefusals = place.getUint32(4 * HEAD_WORD.refusals, true) > 0
  return { ...readCalls(place), refusals: hasRefusals ? refusalCounts(copy, which) : [] }
}

/** Reads what was counted of the calls of a container. @param place a copy of its first `REFUSALS_AT` bytes */
export function readCalls(place: DataView): Omit<ContainerCounts, 'refusals'> {
  const word = (at: number): number => place.getUint32(4 * at, true)
  const calls = callCounts(place, HEAD_SIZE, KINDS)
  const { serial, inFlight, stuck, kept } = HEAD_WORD
  return { serial: word(serial), inFlight: word(inFlight), stuck: word(stuck), kept: word(kept), calls }
}

/** Reads counters that lie one after the other, from `from` on, but those of what was never called. */
export function callCounts(place: DataView, from: number, kinds: number): readonly CallCount[] {
  const words = new Uint32Array(place.buffer, place.byteOffset + from, (kinds * KIND_SIZE) / 4)
  const counts: CallCount[] = []
  // Nearly always nothing was counted there, which the comparison finds at once.
  const others = Buffer.from(place.buffer, place.byteOffset + from, NO_OTHERS.length)
  for (let index = others.equals(NO_OTHERS) ? OTHERS : 0; index < kinds; index++) {
    const first = (index * KIND_SIZE) / 4
    const key = words[first + KIND_WORD.key]!
    // What has no counter of its own has no key either.
    if ((key === 0 && index >= OTHERS) || !hasCalls(words, first)) continue
    const kind: CallKind =
      index < OTHERS ? { verdict: verdicts[index]!, reason: 'notServed', arch: 0, nr: -1 } : decodeCallKey(key)
    counts.push(callCount(words, first, kind))
  }
  return counts
}

const NO_OTHERS = Buffer.alloc(OTHERS * KIND_SIZE)

function hasCalls(words: Uint32Array, first: number): boolean {
  const buckets = first + KIND_WORD.buckets
  for (let word = buckets; word < buckets + 2 * (BOUNDS.length + 1); word++) if (words[word] !== 0) return true
  return false
}

const pair = (words: Uint32Array, at: number): number => words[at]! + words[at + 1]! * WORD

function callCount(words: Uint32Array, first: number, kind: CallKind): CallCount {
  const buckets = new Array<number>(BOUNDS.length + 1)
  let calls = 0
  for (let bucket = 0; bucket <= BOUNDS.length; bucket++) {
    const count = pair(words, first + KIND_WORD.buckets + 2 * bucket)
    buckets[bucket] = count
    calls += count
  }
  return { ...kind, calls, microseconds: pair(words, first + KIND_WORD.sum) / TENTHS, buckets }
}

const number64 = (place: DataView, at: number): number =>
  place.getUint32(at, true) + place.getUint32(at + 4, true) * WORD

/** A refusal was being written if its version is odd, or is another one afterwards. */
function refusalCounts(copy: CopyPlace, which: WhichRefusals): readonly RefusalCount[] {
  const all = copy(REFUSALS_AT, REFUSALS * REFUSAL_SIZE)
  const version = 4 * REFUSAL_WORD.version
  const isSettled = (at: number): boolean => {
    const before = all.getInt32(at + version, true)
    return (before & 1) === 0 && copy(REFUSALS_AT + at + version, 4).getInt32(0, true) === before
  }
  const used = usedRefusals(all)
  if (which === 'all') return used.filter(isSettled).map((at) => refusalCount(all, at))
  const time = (at: number): number => timeIn(all, at + REFUSAL_HEAD)
  const last = used.sort((one, other) => time(other) - time(one)).find(isSettled)
  return last === undefined ? [] : [refusalCount(all, last)]
}

/** Returns where the refusals are. A loop, for there are many places and few refusals. */
function usedRefusals({ buffer, byteOffset, byteLength }: DataView): number[] {
  const words = new Int32Array(buffer, byteOffset, byteLength / 4)
  const used: number[] = []
  for (let word = 0; word < words.length; word += REFUSAL_SIZE / 4)
    if (words[word + REFUSAL_WORD.key] !== 0) used.push(4 * word)
  return used
}

const refusalCount = (place: DataView, at: number): RefusalCount => ({
  count: number64(place, at + 4 * REFUSAL_WORD.count),
  record: decodeRecord(place, at + REFUSAL_HEAD),
  args: registersOf(place, at + REFUSAL_HEAD),
  texts: textsIn(place, at + REFUSAL_HEAD),
})
