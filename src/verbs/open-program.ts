import { forOwner, PROG_INFO_SIZE } from '../abi/bpf-attr.ts'
import { errno } from '../abi/errno.ts'
import { PAGE } from '../abi/limits.ts'
import type { Verb, Verbs } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import { why } from '../calls/reason.ts'
import { steps } from '../calls/steps.ts'
import { ContinueError } from '../calls/verdict.ts'
import { objectInfo } from '../kernel/bpf.ts'

export const openProgram: Verb<Verbs['openProgram']> = {
  steps: [steps.findProgram, steps.askPrograms, steps.countApart],
  safe:
    'The number is of a program that this container loaded. The load time is compared too, because numbers are ' +
    'reused. Only one call, which requires CAP_SYS_ADMIN, can open it. The container gets a pipe that represents ' +
    'it.',
  run({ program }, caller) {
    const standIn = caller.devicePrograms.standIn(caller.devicePrograms.open(program))
    if (!standIn) return { value: 0n, errno: errno('ENOMEM'), why: why('tooManyPrograms') }
    caller.note(standIn.note)
    return { value: 0n, fd: standIn.fd, cloexec: true }
  },
  recover: (_act, _caller, { given }) => (given === undefined ? undefined : { value: BigInt(given) }),
}

export const describeProgram: Verb<Verbs['describeProgram']> = {
  steps: [steps.describeProgram, steps.findProgram, steps.askPrograms],
  safe:
    'The caller learns what the kernel tells anyone with a descriptor of the program and no capabilities: number, ' +
    'name, tag, times, but no code, and nothing through pointers that the caller gives. Nothing changes.',
  run({ program, infoAt, length, lengthAt }, caller) {
    // The kernel checks this first too (kernel/bpf/syscall.c bpf_prog_get_info_by_fd()). It is done at home, since no
    // later step may read the caller's memory.
    if (length > PROG_INFO_SIZE && !isZero(caller, infoAt + BigInt(PROG_INFO_SIZE), length - PROG_INFO_SIZE))
      return { value: 0n, errno: errno('E2BIG') }
    using fd = caller.devicePrograms.open(program)
    const info = forOwner(caller.act(steps.describeProgram, () => objectInfo(fd)))
    const returned = info.subarray(0, length)
    return {
      value: 0n,
      writes: [
        { at: infoAt, bytes: returned },
        { at: lengthAt, bytes: new Uint8Array(Uint32Array.of(returned.length).buffer) },
      ],
    }
  },
}

/** Tells whether the members beyond our `struct bpf_prog_info` are zero, as the kernel requires. */
function isZero(caller: Caller, at: bigint, length: number): boolean {
  if (length > PAGE) return false
  try {
    return caller.bytes(at, length).every((byte) => byte === 0)
  } catch (error) {
    if (error instanceof ContinueError) return false
    throw error
  }
}
