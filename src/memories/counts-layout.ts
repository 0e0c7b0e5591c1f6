import { architectures } from '../abi/syscalls.ts'
import { PAGE } from '../abi/system.ts'
import { type ReasonCode, reasonCodes } from '../calls/reasons.ts'
import {
  type CallRecord,
  CODES,
  RECORD_SIZE,
  reasonIndex,
  type VerdictName,
  verdictIndex,
  verdicts,
} from '../calls/record.ts'
import { struct } from '../shared/words.ts'

/**
 * The memory of counts: a header, and a place for each container, by its number. A place has a head, counters for up to
 * KINDS kinds of calls, and the last call of each of up to REFUSALS kinds of refusals. Behind the places are counters
 * of up to ENDED_KINDS kinds of calls of all containers that have ended: a sum over all calls never shrinks.
 *
 * A counter: 0 s32 key (0 is a free one) | 4 - | 8 u64 sum of durations, in tenths of microseconds | 16 u64[BUCKETS].
 * A refusal: 0 s32 writer: 1 while a thread writes | 4 s32 key | 8 u32 a | 12 u32 b | 16 u64 count | 24 s32 version,
 * odd while it is written | 28 f64 the time of the first one, 0 if that is not known | 64 a record.
 */
export const COUNTS_LAYOUT = 3
export const COUNTS_HEADER = 4096
export const [COUNTS_WORD] = struct({
  ...{ layout: 1, placeSize: 1, places: 1 },
  /** `CODES`, since a key has the index of a code. */
  codes: 1,
  /** Odd while counters are moved from an ended container to those of all ended containers. */
  version: 1,
})

export const KINDS = 64
export const ENDED_KINDS = 1024
export const REFUSALS = 64

/** Upper bounds of the buckets of durations, in microseconds; the last bucket has no bound. */
export const BOUNDS: readonly number[] = [
  ...[5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000],
  ...[100_000, 200_000, 500_000, 1e6, 2e6, 5e6, 1e7, 2e7],
]
const BUCKETS = BOUNDS.length + 1

/** The words of `usedRefusals`. */
export const USED_WORDS = REFUSALS / 32
/**
 * The head of a place, in words. usedKinds, usedRefusals: a bit for each counter and refusal that was ever used. last:
 * the number of the last refusal, starting at 1. dropped: how many kinds of refusals have made room for others.
 */
export const [HEAD_WORD] = struct({
  ...{ serial: 1, refusals: 1, inFlight: 1, stuck: 1, kept: 1, last: 1 },
  ...{ usedKinds: KINDS / 32, usedRefusals: USED_WORDS, dropped: 1, rest: 53 },
})
export const HEAD_SIZE = 256
/** The members of a counter and of a refusal, in words. */
const [KIND, KIND_WORDS] = struct({ key: 1, rest: 1, sum: 2, buckets: 2 * BUCKETS, spare: 16 })
export const KIND_WORD = KIND
export const KIND_SIZE = 4 * KIND_WORDS
export const [REFUSAL_WORD] = struct({ writer: 1, key: 1, a: 1, b: 1, count: 2, version: 1, first: 2, spare: 7 })
export const REFUSAL_HEAD = 64
export const REFUSAL_SIZE = REFUSAL_HEAD + RECORD_SIZE
export const REFUSALS_AT = HEAD_SIZE + KINDS * KIND_SIZE
/** A place takes whole pages, so that they can be given back when its container ends. */
export const COUNTS_PLACE = Math.ceil((REFUSALS_AT + REFUSALS * REFUSAL_SIZE) / PAGE) * PAGE

/** The size of the counters of ended containers; whole pages. */
export const ENDED_SIZE = ENDED_KINDS * KIND_SIZE

export const countsSize = (places: number): number => COUNTS_HEADER + places * COUNTS_PLACE + ENDED_SIZE
export const countsPlace = (container: number): number => COUNTS_HEADER + container * COUNTS_PLACE
/** The offset of the counters of ended containers. @param words the header */
export const endedCounts = (words: Int32Array): number => countsPlace(words[COUNTS_WORD.places]!)

export function formatCounts(memory: ArrayBuffer): void {
  const words = new Int32Array(memory, 0, COUNTS_HEADER / 4)
  words[COUNTS_WORD.layout] = COUNTS_LAYOUT
  words[COUNTS_WORD.placeSize] = COUNTS_PLACE
  words[COUNTS_WORD.places] = (memory.byteLength - ENDED_SIZE - COUNTS_HEADER) / COUNTS_PLACE
  words[COUNTS_WORD.codes] = CODES
}

export function isCounts(memory: ArrayBuffer): boolean {
  if (memory.byteLength < COUNTS_HEADER) return false
  const words = new Int32Array(memory, 0, COUNTS_HEADER / 4)
  const isOurs = words[COUNTS_WORD.layout] === COUNTS_LAYOUT && words[COUNTS_WORD.placeSize] === COUNTS_PLACE
  return isOurs && words[COUNTS_WORD.codes] === CODES && memory.byteLength === countsSize(words[COUNTS_WORD.places]!)
}

/** Writes how many calls of a container are in flight. The engine's main thread calls this once a second. */
export function setInFlight(memory: ArrayBuffer, container: number, calls: number): void {
  const words = new Int32Array(memory)
  const word = (countsPlace(container) >> 2) + HEAD_WORD.inFlight
  // A page that was never written to must not count as a zero.
  if (Atomics.load(words, word) !== calls) Atomics.store(words, word, calls)
}

/** The first counters, one for each verdict, count kinds without a counter of their own. */
export const OTHERS = 4

/** Spreads keys of kinds of calls over the places of a table. */
export const spreadKey = (key: number): number => Math.imul(key, 0x9e37_79b1) >>> 16

/**
 * A kind of calls in one word: bit 0 is set | 1 verdict (2) | 3 reason (10) | 13 architecture (2) | 15 number of the
 * call (12). All numbers that do not fit are OTHER_NUMBER.
 */
const OTHER_NUMBER = 0xfff
const audits: readonly number[] = Object.values(architectures).map(({ audit }) => audit)
const OTHER_ARCHITECTURE = 3

export function callKey({ verdict, reason, arch, nr }: CallRecord): number {
  const number = nr >= 0 && nr < OTHER_NUMBER ? nr : OTHER_NUMBER
  const index = audits.indexOf(arch)
  const architecture = index < 0 ? OTHER_ARCHITECTURE : index
  return 1 | (verdictIndex.get(verdict)! << 1) | (reasonIndex.get(reason)! << 3) | (architecture << 13) | (number << 15)
}

/** A kind of calls, as a reader sees it; nr is -1 for a call with an unknown number. */
export interface CallKind {
  readonly verdict: VerdictName
  readonly reason: ReasonCode
  readonly arch: number
  readonly nr: number
}

export function decodeCallKey(key: number): CallKind {
  const number = (key >>> 15) & OTHER_NUMBER
  return {
    verdict: verdicts[(key >>> 1) & 3]!,
    reason: reasonCodes[(key >>> 3) & 0x3ff] ?? 'fault',
    arch: audits[(key >>> 13) & 3] ?? 0,
    nr: number === OTHER_NUMBER ? -1 : number,
  }
}
