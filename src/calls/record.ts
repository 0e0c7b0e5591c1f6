import type { Tid } from '../abi/brand.ts'
import { type Reason, type ReasonCode, reasonCodes } from './reason.ts'

/**
 * The outcome of one call, as the engine's threads write it into a ring in shared memory for the keeper.
 *
 *   0 u32 sequence + 1 (written last) | 4 u32 container | 8 s32 nr | 12 u32 arch | 16 u32 tid | 20 u16 errno |
 *   22 u8 verdict | 24 u16 reason | 28 u32 a | 32 u32 b | 36 f32 microseconds | 40 f64 time (milliseconds since 1970) |
 *   48 s32 writer: 1 while a thread writes here
 */
export const RECORD_SIZE = 64
/** The offset of `writer`. */
export const RECORD_WRITER = 48

export const verdicts = ['continue', 'errno', 'act', 'gone'] as const
export type VerdictName = (typeof verdicts)[number]

export interface CallRecord {
  /** The keeper's number of the container. */
  readonly container: number
  readonly nr: number
  readonly arch: number
  readonly tid: Tid
  readonly verdict: VerdictName
  /** 0 for success, and for `continue`, since the kernel runs the call afterwards. */
  readonly errno: number
  readonly reason: ReasonCode
  readonly a: number
  readonly b: number
  /** The time from receipt to answer. */
  readonly microseconds: number
  readonly time: number
  /** The text of the policy for which `a` stands: no part of the ring, the keeper adds it. */
  readonly named?: string
}

export const reasonOf = ({ reason, a, b, named }: CallRecord): Reason => ({ code: reason, a, b, named })

const verdictIndex = new Map(verdicts.map((name, index) => [name, index]))
const reasonIndex = new Map(reasonCodes.map((code, index) => [code, index]))

/**
 * Returns what is said of a call, as numbers: two calls for which they are the same are of one kind. Sentences about a
 * call depend on nothing else.
 */
export const kindOf = ({ arch, nr, verdict, errno, reason, a, b }: CallRecord): readonly number[] => [
  ...[arch, nr, verdictIndex.get(verdict)!, errno],
  ...[reasonIndex.get(reason)!, a, b],
]

/** Encodes a record. @param view at least 48 bytes from `at` on; the ring itself writes sequence and writer */
export function encodeRecord(view: DataView, at: number, record: CallRecord): void {
  view.setUint32(at + 4, record.container, true)
  view.setInt32(at + 8, record.nr, true)
  view.setUint32(at + 12, record.arch, true)
  view.setUint32(at + 16, record.tid, true)
  view.setUint16(at + 20, record.errno, true)
  view.setUint8(at + 22, verdictIndex.get(record.verdict)!)
  view.setUint16(at + 24, reasonIndex.get(record.reason)!, true)
  view.setUint32(at + 28, record.a, true)
  view.setUint32(at + 32, record.b, true)
  view.setFloat32(at + 36, record.microseconds, true)
  view.setFloat64(at + 40, record.time, true)
}

/** Decodes a record. An unknown verdict or reason, which only a fault of ours could have written, becomes 'fault'. */
export function decodeRecord(view: DataView, at: number): CallRecord {
  return {
    container: view.getUint32(at + 4, true),
    nr: view.getInt32(at + 8, true),
    arch: view.getUint32(at + 12, true),
    tid: view.getUint32(at + 16, true) as Tid,
    errno: view.getUint16(at + 20, true),
    verdict: verdicts[view.getUint8(at + 22)] ?? 'gone',
    reason: reasonCodes[view.getUint16(at + 24, true)] ?? 'fault',
    a: view.getUint32(at + 28, true),
    b: view.getUint32(at + 32, true),
    microseconds: view.getFloat32(at + 36, true),
    time: view.getFloat64(at + 40, true),
  }
}
