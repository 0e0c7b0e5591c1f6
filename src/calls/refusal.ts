import type { ReasonCode } from './reason.ts'
import type { CallRecord } from './record.ts'

/** Reasons of calls that are left to the kernel by design: a filter traps them as it cannot read memory. */
const ORDINARY: ReadonlySet<ReasonCode> = new Set([
  'attributeOfAll',
  'attributeAbsent',
  'kernelMakesWhiteouts',
  'kernelMountsIt',
  'changesMounts',
  'foreignContext',
  'foreignMount',
  'contextTold',
  'fuseByMount',
])

/** Tells whether the caller did not get what it asked for, or only what the kernel gives it without us. */
export const isRefusal = ({ verdict, errno, reason }: CallRecord): boolean =>
  verdict === 'act' ? errno !== 0 : verdict !== 'gone' && !ORDINARY.has(reason)
