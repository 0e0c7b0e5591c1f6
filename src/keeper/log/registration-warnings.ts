import { type Cap, capNumber } from '../../abi/capability.ts'
import { explain, type ReasonCode, why } from '../../calls/reason.ts'
import { clamped } from '../../policy/ceiling.ts'
import { ineffectiveKeys } from '../../policy/ineffective.ts'
import { fullName } from '../../policy/key.ts'
import { callOf, keyNames } from '../../policy/key-names.ts'
import type { KeyName } from '../../policy/keys.ts'
import type { Policy } from '../../policy/policy.ts'
import { capabilitySets } from '../../policy/required-capabilities.ts'
import type { Settings } from '../../policy/settings.ts'
import { bundleBoundingSet } from '../../runtimes/bundle.ts'
import { untrapped } from '../../syscalls/index.ts'
import type { KeeperEvent } from '../process/events.ts'
import { isOfAll, isOfAnnotation } from './effective-keys.ts'

type Registered = Extract<KeeperEvent, { type: 'registered' }>

/** Lists what cannot work in a new container's policy: a sentence with its remedy for each. */
export function registrationWarnings(event: Registered): readonly string[] {
  const {
    barred,
    unruly,
    handover,
    withheld,
    resolved: { policy, settings },
  } = event
  if (barred) return [sentence(barred)]
  const bounding = bundleBoundingSet(handover.bundle)
  const lacking = (set: readonly Cap[]): Cap | undefined => set.find((cap) => bounding?.has(`CAP_${cap}`) === false)
  const dropped = capabilitySets(policy).flatMap((sets) => {
    const lacks = sets.map(lacking)
    return lacks.every((cap) => cap !== undefined) ? [lacks[0]!] : []
  })
  const place = policy.bpf?.devices && unruly ? [sentence(unruly)] : []
  const left = withheld.map((key) => `${key}: ${sentence('userDaemon')}`)
  const caps = [...new Set(dropped)].map((cap) => sentence('lacksCapability', capNumber(cap)))
  return [...left, ...caps, ...place, ...idle(event), ...(settings ? clamped(settings) : [])]
}

/**
 * Lists the keys that were meant for this container and have no effect there. Keys of the configuration's default are
 * for containers of all kinds, so they do not count. An annotation that switches a call off is intended, too.
 */
function idle({ resolved: { settings, policy }, traps }: Registered): readonly string[] {
  if (!settings) return []
  const isMeant = (name: KeyName): boolean =>
    !isOfAll(settings.get(name)!) && !isOfAnnotation(settings.get(callOf(name))!)
  return [
    ...ineffectiveKeys(settings, isMeant),
    ...(traps instanceof Set ? untrappedKeys(settings, policy, traps) : []),
  ]
}

const untrappedKeys = (settings: Settings, policy: Policy, traps: ReadonlySet<string>): readonly string[] =>
  keyNames.flatMap((name) => {
    const missing = isOfAll(settings.get(name)!) ? [] : untrapped(policy, name, traps)
    if (missing.length === 0) return []
    return [
      `${fullName(name)}: the filter of the container does not trap ${missing.join(', ')}: make its profile with this key`,
    ]
  })

function sentence(code: ReasonCode, a?: number): string {
  const { says, remedy } = explain(why(code, a))
  return remedy ? `${says}: ${remedy}` : says
}
