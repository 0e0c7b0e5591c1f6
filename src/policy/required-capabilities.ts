import type { Cap } from '../abi/capability.ts'
import type { Policy } from './policy.ts'

/**
 * The capabilities that a container must hold for a key to be of any use, since the kernel would ask for them in the initial
 * user namespace: any one of the sets, the usual one first. The sysinfo that is reported needs none.
 */
export const needs: readonly (readonly [key: keyof Policy, usual: readonly Cap[], ...others: (readonly Cap[])[]])[] = [
  ['mknod', ['MKNOD']],
  ['mount', ['SYS_ADMIN']],
  ['bpf', ['SYS_ADMIN'], ['BPF', 'NET_ADMIN']],
  ['setxattr', ['SYS_ADMIN']],
  ['schedSetscheduler', ['SYS_NICE']],
]

/** What to give a container for a policy. */
export const capabilitiesFor = (policy: Policy): readonly Cap[] => [
  ...new Set(needs.flatMap(([key, usual]) => (policy[key] ? usual : []))),
]
