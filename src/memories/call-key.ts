import { architectures } from '../abi/syscalls.ts'
import { type ReasonCode, reasonCodes } from '../calls/reason.ts'
import { type CallRecord, reasonIndex, type VerdictName, verdictIndex, verdicts } from '../calls/record.ts'

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
