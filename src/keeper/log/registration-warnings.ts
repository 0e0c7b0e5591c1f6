import { type Cap, capNumber } from '../../abi/capability.ts'
import { explain, type ReasonCode, why } from '../../calls/reason.ts'
import { capabilitySets } from '../../policy/required-capabilities.ts'
import { bundleBoundingSet } from '../../runtimes/bundle.ts'
import type { KeeperEvent } from '../process/events.ts'

type Registered = Extract<KeeperEvent, { type: 'registered' }>

/** Lists what cannot work of a new container's policy: a sentence with its remedy for each. */
export function registrationWarnings({
  barred,
  unruly,
  handover,
  withheld,
  resolved: { policy },
}: Registered): readonly string[] {
  if (barred) return [sentence(barred)]
  const bounding = bundleBoundingSet(handover.bundle)
  const lacking = (set: readonly Cap[]): Cap | undefined => set.find((cap) => bounding?.has(`CAP_${cap}`) === false)
  const dropped = capabilitySets(policy).flatMap((sets) => {
    const lacks = sets.map(lacking)
    return lacks.every((cap) => cap !== undefined) ? [lacks[0]!] : []
  })
  const place = policy.bpf?.devices && unruly ? [sentence(unruly)] : []
  const left = withheld.map((key) => `${key}: ${sentence('userDaemon')}`)
  return [...left, ...[...new Set(dropped)].map((cap) => sentence('lacksCapability', capNumber(cap))), ...place]
}

function sentence(code: ReasonCode, a?: number): string {
  const { says, remedy } = explain(why(code, a))
  return remedy ? `${says}: ${remedy}` : says
}
