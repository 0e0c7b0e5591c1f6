import { holds, type Rule, type Syscall } from '../calls/syscall.ts'
import type { KeyName } from '../policy/keys.ts'
import { type Policy, serves } from '../policy/policy.ts'
import { bpf } from './bpf.ts'
import { fsconfig, fsmount, fsopen, fspick } from './fs-context.ts'
import { mknod, mknodat } from './mknod.ts'
import { mount, umount } from './mount.ts'
import { mountSetattr } from './mount-setattr.ts'
import { moveMount } from './move-mount.ts'
import { rlimits } from './rlimits.ts'
import { sched, taskPriorities } from './sched.ts'
import { sysinfo } from './sysinfo.ts'
import { xattrHandlers } from './xattr.ts'

const mounts = [mount, umount, fsopen, fspick, fsconfig, fsmount, moveMount, mountSetattr]

/**
 * The handlers of all calls that are served. Only the handler that decodes a request reads it, so its type is unknown
 * here.
 */
export const handlers = [
  mknod,
  mknodat,
  ...xattrHandlers,
  ...sched,
  ...taskPriorities,
  ...rlimits,
  sysinfo,
  ...mounts,
  bpf,
] as readonly Syscall<unknown>[]

/** Returns the calls that a filter must trap for a key to do all that it is for; an option of a call often has none. */
export const callsOf = (key: KeyName): readonly string[] =>
  handlers
    .filter((handler) => (handler.key === key || handler.also?.keys.includes(key)) && !handler.tells)
    .map(({ name }) => name)

/** Returns the calls of a key that a policy serves, and that are missing among those that a filter traps. */
export const untrapped = (policy: Policy, key: KeyName, traps: ReadonlySet<string>): readonly string[] =>
  serves(policy, key) ? callsOf(key).filter((name) => !traps.has(name)) : []

/** Returns the rules of a call: those of its own key, and of others that need it. Without conditions all is trapped. */
function rulesOf({ name, key, when, also }: Syscall<unknown>, policy: Policy): readonly Rule[] {
  const lists = [
    ...(serves(policy, key) ? [when] : []),
    ...(also?.keys.some((other) => serves(policy, other)) ? [also.when] : []),
  ]
  if (lists.includes(undefined)) return [{ name }]
  return lists.flatMap((all = []) => all.map((conditions) => ({ name, when: conditions })))
}

/** Returns the rules of what to trap under a policy, for filter/ to compile. */
export const rulesFor = (policy: Policy): readonly Rule[] => handlers.flatMap((handler) => rulesOf(handler, policy))

/** The rules of each policy, which many calls share. */
const rulesByPolicy = new WeakMap<Policy, readonly Rule[]>()

/** Tells whether a filter for a policy traps a call with these registers. */
export function isTrapped(
  policy: Policy,
  { name, args }: { readonly name: string; readonly args: readonly bigint[] },
): boolean {
  const rules = rulesByPolicy.get(policy) ?? rulesFor(policy)
  rulesByPolicy.set(policy, rules)
  return rules.some(
    ({ name: trapped, when = [] }) => trapped === name && when.every((condition) => holds(condition, args)),
  )
}
