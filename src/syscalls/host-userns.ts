import { type Cap, capNumber } from '../abi/credentials.ts'
import type { Caller } from '../calls/caller.ts'
import type { ReasonCode } from '../calls/reasons.ts'
import { continueWith, type Verdict } from '../calls/verdict.ts'
import { callOf, type KeyName, keys } from '../policy/keys.ts'

// A container without a user namespace of its own: all of its calls are left to the kernel, which does many of them. No
// such call is said to be refused.

/** Reasons of calls for which the kernel asks no capability. */
const FOR_ANYBODY: ReadonlySet<ReasonCode> = new Set(['kernelMakesWhiteouts', 'attributeOfAll'])

/** Takes what a handler says of a call without a look at its caller. @returns undefined if the caller matters */
export const withoutCaller = (verdict: Verdict | undefined): Verdict | undefined =>
  verdict && FOR_ANYBODY.has(verdict.why.code) ? verdict : undefined

/** Tells calls that the kernel refuses from those of a caller who has a capability for them on the host. */
export function judgeOnHost(key: KeyName, caller: Pick<Caller, 'inInitialUserns' | 'holds'>): Verdict {
  const call = callOf(key)
  const wanted: readonly Cap[] = call === undefined ? [] : keys[call].capabilities.flat()
  const held = caller.inInitialUserns ? wanted.find((cap) => caller.holds(cap)) : undefined
  return held === undefined ? continueWith('hostUserns') : continueWith('hostCapability', capNumber(held))
}
