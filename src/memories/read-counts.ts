import { type CallRecord, decodeRecord, registersOf, textsIn, verdicts } from '../calls/record.ts'
import { type CallKind, decodeCallKey } from './call-key.ts'
import { OTHERS } from './count-writer.ts'
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
  readonly calls: readonly CallCount[]
  readonly refusals: readonly RefusalCount[]
}

const WORD = 2 ** 32
const TENTHS = 10

/**
 * Decodes a copy of the place of a container.
 *
 * @param again a copy that was made after the first one: a refusal that was written meanwhile is left out
 */
export function readCounts(place: DataView, again: DataView = place): ContainerCounts {
  const word = (at: number): number => place.getUint32(at, true)
  return {
    serial: word(4 * HEAD_WORD.serial),
    inFlight: word(4 * HEAD_WORD.inFlight),
    calls: Array.from({ length: KINDS }, (_, index) => callCount(place, index)).filter((each) => each !== undefined),
    refusals: Array.from({ length: REFUSALS }, (_, index) => REFUSALS_AT + index * REFUSAL_SIZE)
      .filter((at) => isSettled(place, again, at))
      .map((at) => refusalCount(place, at)),
  }
}

const number64 = (place: DataView, at: number): number =>
  place.getUint32(at, true) + place.getUint32(at + 4, true) * WORD

function callCount(place: DataView, index: number): CallCount | undefined {
  const at = HEAD_SIZE + index * KIND_SIZE
  const key = place.getInt32(at + 4 * KIND_WORD.key, true)
  const buckets = Array.from({ length: BOUNDS.length + 1 }, (_, bucket) =>
    number64(place, at + 4 * KIND_WORD.buckets + 8 * bucket),
  )
  const calls = buckets.reduce((sum, each) => sum + each, 0)
  if (calls === 0) return undefined
  const kind: CallKind =
    index < OTHERS ? { verdict: verdicts[index]!, reason: 'notServed', arch: 0, nr: -1 } : decodeCallKey(key)
  return { ...kind, calls, microseconds: number64(place, at + 4 * KIND_WORD.sum) / TENTHS, buckets }
}

/** Returns whether there is a refusal, and nobody was writing it between both copies. */
function isSettled(place: DataView, again: DataView, at: number): boolean {
  const versionOf = (view: DataView): number => view.getInt32(at + 4 * REFUSAL_WORD.version, true)
  const version = versionOf(place)
  return place.getInt32(at + 4 * REFUSAL_WORD.key, true) !== 0 && (version & 1) === 0 && versionOf(again) === version
}

const refusalCount = (place: DataView, at: number): RefusalCount => ({
  count: number64(place, at + 4 * REFUSAL_WORD.count),
  record: decodeRecord(place, at + REFUSAL_HEAD),
  args: registersOf(place, at + REFUSAL_HEAD),
  texts: textsIn(place, at + REFUSAL_HEAD),
})
