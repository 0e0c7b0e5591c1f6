import type { Cap } from '../abi/capability.ts'
import { calls } from './key-names.ts'
import type { Policy } from './policy.ts'

/**
 * Returns for each call that takes capabilities the sets of which a container must hold one; the usual set is the
 * first.
 */
export const capabilitySets = (policy: Policy): readonly (readonly (readonly Cap[])[])[] =>
  calls.filter(({ member, key }) => member in policy && key.capabilities.length > 0).map(({ key }) => key.capabilities)

/** Returns the capabilities to give a container for a policy. */
export const capabilitiesFor = (policy: Policy): readonly Cap[] => [
  ...new Set(capabilitySets(policy).flatMap(([usual = []]) => usual)),
]
