import type { Container } from '../../caller/identity/container.ts'
import type { Policy } from '../../policy/policy.ts'
import { forUser } from '../../policy/rootless.ts'
import { rulesFor } from '../../syscalls/index.ts'

/** The part of a policy that the engine serves, and the keys that are left to the kernel. */
export interface RootlessServed {
  readonly policy: Policy
  readonly ofUser?: NonNullable<Container['ofUser']>
  readonly withheld: readonly string[]
}

/**
 * Reduces a policy to the part that works without privileges on the host. @param isUser whether an unprivileged user
 * runs intercede
 */
export function servedRootless(policy: Policy, isUser = false): RootlessServed {
  if (!isUser) return { policy, withheld: [] }
  const { policy: left, withheld } = forUser(policy)
  const traps = (of: Policy): readonly string[] => rulesFor(of).map(({ name }) => name)
  const stays = new Set(traps(left))
  return { policy: left, withheld, ofUser: { withheld: new Set(traps(policy).filter((name) => !stays.has(name))) } }
}
