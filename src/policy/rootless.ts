import { PolicyError } from './error.ts'
import { fullName, type KeyName } from './keys.ts'
import type { Policy } from './policy.ts'

/** What is left of a policy for an intercede that a user runs, and the keys that are not. */
export interface ForUser {
  readonly policy: Policy
  readonly withheld: readonly string[]
}

/** All of a policy that the kernel lets only root of the host do, by the key that asks for it. */
const ONLY_ROOT: readonly (readonly [key: KeyName, asks: (policy: Policy) => unknown])[] = [
  ['mknod', ({ mknod }) => mknod],
  ['bpf', ({ bpf }) => bpf],
  ['mount.allowed', ({ mount }) => mount?.allowed.size],
  ['sched_setscheduler', ({ schedSetscheduler }) => schedSetscheduler],
  ['setxattr', ({ setxattr }) => setxattr],
]

/** @throws {PolicyError} for a policy that asks for what only root of the host may do */
export function mustServeUser(policy: Policy): void {
  const { withheld } = forUser(policy)
  if (withheld.length === 0) return
  const who = 'the kernel lets only root of the host do that: have the administrator run intercede serve'
  throw new PolicyError(`${withheld.join(' and ')} cannot be served for a user; ${who}`)
}

/**
 * What may be done for containers in the user namespace of a user: nothing for which the kernel asks a capability in the
 * initial one. What remains takes none (sysinfo), or is done by a program of the container itself (mount.fuse).
 */
export function forUser(policy: Policy): ForUser {
  const { sysinfo, mount } = policy
  return {
    policy: {
      ...(sysinfo ? { sysinfo } : {}),
      ...(mount?.fuse.size ? { mount: { ...mount, allowed: new Set<string>() } } : {}),
    },
    withheld: ONLY_ROOT.filter(([, asks]) => asks(policy)).map(([key]) => fullName(key)),
  }
}
