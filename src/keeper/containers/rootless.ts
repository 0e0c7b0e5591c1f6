import type { Container } from '../../caller/identity/container.ts'
import type { Policy } from '../../policy/policy.ts'
import { forUser } from '../../policy/user.ts'
import { rulesFor } from '../../syscalls/index.ts'

/** What the engine is told of a policy, and the keys of it that are left to the kernel. */
export interface RootlessServed {
  readonly policy: Policy
  readonly ofUser?: NonNullable<Container['ofUser']>
  readonly withheld: readonly string[]
}

/** @param isUser a user runs us */
export function servedRootless(policy: Policy, isUser = false): RootlessServed {
  if (!isUser) return { policy, withheld: [] }
  const { policy: left, withheld } = forUser(policy)
  const traps = (of: Policy): readonly string[] => rulesFor(of).map(({ name }) => name)
  const stays = new Set(traps(left))
  return { policy: left, withheld, ofUser: { withheld: new Set(traps(policy).filter((name) => !stays.has(name))) } }
}
