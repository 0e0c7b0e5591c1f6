import { type CallRecord, decodeRecord, registersOf, textsIn, verdicts } from '../calls/record.ts'
import {
  BOUNDS,
  type CallKind,
  decodeCallKey,
  HEAD_SIZE,
  HEAD_WORD,
  KIND_SIZE,
  KIND_WORD,
  KINDS,
  OTHERS,
  REFUSAL_HEAD,
  REFUSAL_SIZE,
  REFUSAL_WORD,
  REFUSALS,
  REFUSALS_AT,
} from './counts-layout.ts'

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
  /** The time of the first one, in milliseconds since 1970; 0 if it is not known. */
  readonly first: number
  readonly record: CallRecord
  /** The registers of the call; undefined if they are not recorded. */
  readonly args: readonly bigint[] | undefined
  readonly texts: Uint8Array
}

export interface ContainerCounts {
  readonly serial: number
  readonly inFlight: number
  /** Calls in flight that have taken longer than ten seconds. */
  readonly stuck: number
  /** How many descriptors are kept for the container: contexts, mounts, programs. */
  readonly kept: number
  readonly calls: readonly CallCount[]
  readonly refusals: readonly RefusalCount[]
  /** How many kinds of refusals have made room for later ones. */
  readonly dropped: number
}

const WORD = 2 ** 32
/** How often the last refusal is copied again if it changes meanwhile. */
const TRIES = 3
const TENTHS = 10

/** Copies a part of the place of a container, from `at` on. */
export type CopyPlace = (at: number, length: number) => DataView

/** Which kinds of refusals to read: all, or only that of the last refused call, because most are never shown. */
export type WhichRefusals = 'all' | 'last'

/** Reads the place of a container. A refusal that is being written is left out; the last refusal comes first. */
export function readCounts(copy: CopyPlace, which: WhichRefusals = 'all'): ContainerCounts {
  const place = copy(0, REFUSALS_AT)
  const last = place.getUint32(4 * HEAD_WORD.last, true)
  const used = which === 'all' ? usedIn(place, HEAD_WORD.usedRefusals, REFUSALS) : []
  const calls = readCalls(place)
  const newest = last === 0 ? [] : lastRefusal(copy, last - 1)
  const others = used.filter((index) => index !== last - 1).flatMap((index) => refusalAt(copy, index))
  return { ...calls, refusals: [...newest, ...others] }
}

/** Reads what was counted of the calls of a container. @param place a copy of its first `REFUSALS_AT` bytes */
export function readCalls(place: DataView): Omit<ContainerCounts, 'refusals'> {
  const word = (at: number): number => place.getUint32(4 * at, true)
  const words = new Uint32Array(place.buffer, place.byteOffset + HEAD_SIZE, (KINDS * KIND_SIZE) / 4)
  const calls = usedIn(place, HEAD_WORD.usedKinds, KINDS).flatMap((index) => callCount(words, index))
  const { serial, inFlight, stuck, kept, dropped } = HEAD_WORD
  return {
    ...{ serial: word(serial), inFlight: word(inFlight), stuck: word(stuck), kept: word(kept) },
    ...{ calls, dropped: word(dropped) },
  }
}

/** Returns which bits are set. */
function usedIn(place: DataView, word: number, count: number): readonly number[] {
  const used: number[] = []
  for (let first = 0; first < count; first += 32)
    for (let bits = place.getUint32(4 * word + first / 8, true); bits !== 0; bits &= bits - 1)
      used.push(first + 31 - Math.clz32(bits & -bits))
  return used
}

/** Reads consecutive counters, starting at `from`, except those of calls that were never made. */
export function callCounts(place: DataView, from: number, kinds: number): readonly CallCount[] {
  const words = new Uint32Array(place.buffer, place.byteOffset + from, (kinds * KIND_SIZE) / 4)
  return Array.from({ length: kinds }, (_, index) => callCount(words, index)).flat()
}

/** Returns the counter with this number, or nothing if it never counted. */
function callCount(words: Uint32Array, index: number): readonly CallCount[] {
  const first = (index * KIND_SIZE) / 4
  const key = words[first + KIND_WORD.key]!
  // Kinds without a counter of their own have no key either.
  if (key === 0 && index >= OTHERS) return []
  const kind: CallKind =
    index < OTHERS ? { verdict: verdicts[index]!, reason: 'notServed', arch: 0, nr: -1 } : decodeCallKey(key)
  const count = countOf(words, first, kind)
  return count.calls === 0 ? [] : [count]
}

const pair = (words: Uint32Array, at: number): number => words[at]! + words[at + 1]! * WORD

function countOf(words: Uint32Array, first: number, kind: CallKind): CallCount {
  const buckets = new Array<number>(BOUNDS.length + 1).fill(0)
  let calls = 0
  for (let bucket = 0, at = first + KIND_WORD.buckets; bucket <= BOUNDS.length; bucket++, at += 2) {
    if (words[at] === 0 && words[at + 1] === 0) continue
    const count = pair(words, at)
    buckets[bucket] = count
    calls += count
  }
  return { ...kind, calls, microseconds: pair(words, first + KIND_WORD.sum) / TENTHS, buckets }
}

const number64 = (place: DataView, at: number): number =>
  place.getUint32(at, true) + place.getUint32(at + 4, true) * WORD

/** A flood of the same refusal may write it all the time. */
function lastRefusal(copy: CopyPlace, index: number): readonly RefusalCount[] {
  for (let tries = 1; ; tries++) {
    const last = refusalAt(copy, index)
    if (last.length > 0 || tries === TRIES) return last
  }
}

/** Returns a refusal, or nothing if it was being written: its version is odd, or has changed afterwards. */
function refusalAt(copy: CopyPlace, index: number): readonly RefusalCount[] {
  const at = REFUSALS_AT + index * REFUSAL_SIZE
  const place = copy(at, REFUSAL_SIZE)
  const version = place.getInt32(4 * REFUSAL_WORD.version, true)
  if (place.getInt32(4 * REFUSAL_WORD.key, true) === 0 || (version & 1) === 1) return []
  const refusal = refusalCount(place, 0)
  return copy(at + 4 * REFUSAL_WORD.version, 4).getInt32(0, true) === version ? [refusal] : []
}

const refusalCount = (place: DataView, at: number): RefusalCount => ({
  count: number64(place, at + 4 * REFUSAL_WORD.count),
  first: place.getFloat64(at + 4 * REFUSAL_WORD.first, true),
  record: decodeRecord(place, at + REFUSAL_HEAD),
  args: registersOf(place, at + REFUSAL_HEAD),
  texts: textsIn(place, at + REFUSAL_HEAD),
})
