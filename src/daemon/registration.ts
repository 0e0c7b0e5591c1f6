import { capNumber } from '../abi/capability.ts'
import { explain, type ReasonCode, why } from '../calls/reason.ts'
import type { Policy } from '../policy/policy.ts'
import { boundingCapabilities } from '../runtimes/bundle.ts'
import { unserved } from '../syscalls/index.ts'
import type { KeeperEvent } from './events.ts'

type Registered = Extract<KeeperEvent, { type: 'registered' }>

/** The capability that a key is of no use without. */
const needs = [
  ['mknod', 'MKNOD'],
  ['setxattr', 'SYS_ADMIN'],
  ['mount', 'SYS_ADMIN'],
  ['schedSetscheduler', 'SYS_NICE'],
] as const satisfies readonly (readonly [keyof Policy, string])[]

/** What of a container's policy cannot work, each with the sentence and what helps: said once, when it starts. */
export function obstacles({ barred, handover, resolved: { policy } }: Registered): readonly string[] {
  if (barred) return [sentence(barred)]
  const bounding = boundingCapabilities(handover.bundle)
  const dropped = needs.filter(([key, cap]) => policy[key] && bounding && !bounding.has(`CAP_${cap}`))
  const missing = unserved(policy).map((name) => `${name}: ${sentence('notServed')}`)
  return [...dropped.map(([, cap]) => sentence('lacksCapability', capNumber(cap))), ...missing]
}

function sentence(code: ReasonCode, a?: number): string {
  const { says, remedy } = explain(why(code, a))
  return remedy ? `${says}: ${remedy}` : says
}
