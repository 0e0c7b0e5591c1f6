import type { Rule, Traps } from '../calls/rule.ts'
import type { Policy } from '../policy/policy.ts'
import { bpfTraps } from './bpf-traps.ts'
import { handlers } from './handlers.ts'
import { mknodTraps } from './mknod-traps.ts'
import { mountTraps } from './mount-traps.ts'
import { schedTraps } from './sched-traps.ts'
import { sysinfoTraps } from './sysinfo-traps.ts'
import { xattrTraps } from './xattr-traps.ts'

/** Every family that a policy can name. A call whose handler does not exist yet is passed on to the kernel. */
export const traps: readonly Traps[] = [
  { names: ['mknod', 'mknodat'], traps: mknodTraps },
  xattrTraps,
  schedTraps,
  sysinfoTraps,
  mountTraps,
  bpfTraps,
]

/** What to trap under a policy, for filter/ to compile. */
export const rulesFor = (policy: Policy): readonly Rule[] => traps.flatMap((family) => family.traps(policy))

/** The calls that a policy asks for and that have no handler yet: said when a container starts. */
export function unserved(policy: Policy): readonly string[] {
  const served = new Set(handlers.flatMap(({ names }) => names))
  return [...new Set(rulesFor(policy).map(({ name }) => name))].filter((name) => !served.has(name))
}
