import type { Rule, Traps } from '../calls/rule.ts'
import type { Policy } from '../policy/policy.ts'
import { bpfTraps } from './bpf-traps.ts'
import { mknodTraps } from './mknod-traps.ts'
import { mountTraps } from './mount-traps.ts'
import { schedTraps } from './sched-traps.ts'
import { sysinfoTraps } from './sysinfo-traps.ts'
import { xattrTraps } from './xattr-traps.ts'

/**
 * The traps of every family that a policy can name. They are apart from the handlers, so that a command need not load
 * these.
 */
const traps: readonly Traps[] = [mknodTraps, xattrTraps, schedTraps, sysinfoTraps, mountTraps, bpfTraps]

/** Returns the rules of what to trap under a policy, for filter/ to compile. */
export const rulesFor = (policy: Policy): readonly Rule[] => traps.flatMap((rulesOf) => rulesOf(policy))
