import { BPF, BPF_MAP_CREATE, BPF_TOKEN_CREATE } from '../abi/bpf.ts'
import { type Cap, capNumber } from '../abi/credentials.ts'
import { errno } from '../abi/errno.ts'
import { NOTIF } from '../abi/seccomp.ts'
import { syscallName } from '../abi/syscalls.ts'
import type { Container } from '../caller/identity/container.ts'
import type { Caller } from '../calls/caller.ts'
import { refuseKept, type Verdict } from '../calls/verdict.ts'
import { delegates, type Policy } from '../policy/policy.ts'

/** The commands of bpf(2) that make a token, and those for which the kernel looks at capabilities behind a token. */
export const tokenCommands: readonly number[] = [BPF_MAP_CREATE, BPF.PROG_LOAD, BPF_TOKEN_CREATE]

/** With one of these in the user namespace of a token, the kernel lets a program read all of its memory. */
const READERS: readonly Cap[] = ['SYS_ADMIN', 'PERFMON']
const EPERM = errno('EPERM')

/**
 * Refuses what would make a token worth more than CAP_BPF and CAP_NET_ADMIN. For the holder of a token the kernel takes
 * CAP_PERFMON, or CAP_SYS_ADMIN, of the token's user namespace for that of the host: the verifier then allows
 * bpf_probe_read_kernel() and pointers as numbers, and leaves out what slows down speculation. A token of a child user
 * namespace is as powerful: whoever made that has all capabilities there. The command is in a register, and only the
 * caller can change its own capabilities, so nothing of this changes before the kernel goes on.
 *
 * @returns undefined for what is left to the kernel, and for a container without tokens
 * @see linux/kernel/bpf/helpers.c bpf_base_func_proto(), token.c bpf_token_capable(), linux/bpf.h bpf_allow_ptr_leaks()
 */
export function judgeToken(command: number, caller: Caller, policy: Policy): Verdict | undefined {
  if (!tokenCommands.includes(command) || !(delegates(policy) || caller.mayHaveTokens)) return undefined
  const held = command === BPF_TOKEN_CREATE ? undefined : READERS.find((cap) => caller.holds(cap))
  if (held) return refuseKept('readsKernel', EPERM, capNumber(held))
  const isNested = command === BPF_TOKEN_CREATE && !caller.inInitialUserns
  return isNested ? refuseKept('childUserns', EPERM) : undefined
}

/** Set in the numbers of calls of x32, which has the architecture of x86_64, and its numbers for most calls. */
const X32 = 0x4000_0000

/**
 * Tells whether a call must fail rather than be left to the kernel by anybody but `judgeToken`: it comes from a
 * container that may have tokens, and no look at the caller has shown what the kernel would take its capabilities for.
 *
 * @param at where the notification is
 */
export const needsJudge = (
  { mayHaveTokens, policy }: Pick<Container, 'mayHaveTokens' | 'policy'>,
  view: DataView,
  at: number,
): boolean =>
  (mayHaveTokens === true || delegates(policy)) &&
  syscallName(view.getUint32(at + NOTIF.arch, true), view.getInt32(at + NOTIF.nr, true) & ~X32) === 'bpf' &&
  tokenCommands.includes(view.getInt32(at + NOTIF.args, true))
