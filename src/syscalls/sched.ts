import { capNumber } from '../abi/capability.ts'
import {
  decodeSchedAttr,
  RT_PRIORITY_MAX,
  SCHED,
  SCHED_ATTR_LIMIT,
  SCHED_ATTR_SIZE_VER0,
  SCHED_ATTR_SIZE_VER1,
  SCHED_FLAG,
  SCHED_RESET_ON_FORK,
} from '../abi/sched.ts'
import type { Scheduling } from '../calls/act.ts'
import type { Caller, Registers } from '../calls/caller.ts'
import type { Syscall } from '../calls/syscall.ts'
import { act, ContinueError, continueWith, type Verdict } from '../calls/verdict.ts'
import { schedulingOf } from '../kernel/sched.ts'
import type { Policy } from '../policy/policy.ts'

interface Request {
  readonly pid: number
  /** undefined: the one that the task has. */
  readonly policy: number | undefined
  /** 0: none, or the one that the task has. */
  readonly priority: number
  readonly to: Scheduling
}

/** What differs between the three calls. */
interface Form {
  readonly name: Scheduling['by']
  /** The register of the pointer. */
  readonly pointer: 1 | 2
  /** What the registers say about the policy, and whether they are valid. */
  screen(args: Registers): Verdict | undefined
  read(args: Registers, at: bigint, caller: Caller): Omit<Request, 'pid'>
}

/** All but SCHED_DEADLINE, which can take a processor for itself, and SCHED_EXT, whose scheduler is the host's. */
const SERVED: ReadonlySet<number> = new Set([SCHED.OTHER, SCHED.FIFO, SCHED.RR, SCHED.BATCH, SCHED.IDLE])
const hasPriority = (policy: number): boolean => policy === SCHED.FIFO || policy === SCHED.RR
const FLAGS = BigInt(Object.values(SCHED_FLAG).reduce<number>((all, flag) => all | flag, 0))

/** Where the deadline and the period stand, which no other policy has. */
const DEADLINE = [32, 48] as const

/** `struct sched_param` is one int. */
function readPriority(at: bigint, caller: Caller): number {
  const bytes = caller.bytes(at, 4)
  return new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true)
}

/**
 * Copies `struct sched_attr` as the kernel takes it: a size of 0 is the first form; what is beyond the last form must be
 * zero. The copy says its own size, for the one in the caller's memory may have changed, and nothing for SCHED_DEADLINE,
 * which a task may have got from the host.
 *
 * @see linux/kernel/sched/syscalls.c sched_copy_attr()
 */
function readAttr(at: bigint, caller: Caller): Uint8Array {
  const first = caller.bytes(at, SCHED_ATTR_SIZE_VER0)
  const size = new DataView(first.buffer, first.byteOffset).getUint32(0, true) || SCHED_ATTR_SIZE_VER0
  if (size < SCHED_ATTR_SIZE_VER0 || size > SCHED_ATTR_LIMIT) throw new ContinueError('invalidArguments')
  const rest = size - SCHED_ATTR_SIZE_VER0
  const all = rest > 0 ? Buffer.concat([first, caller.bytes(at + BigInt(first.length), rest)]) : Buffer.from(first)
  if (all.subarray(SCHED_ATTR_SIZE_VER1).some((byte) => byte !== 0)) throw new ContinueError('invalidArguments')
  const known = size < SCHED_ATTR_SIZE_VER1 ? SCHED_ATTR_SIZE_VER0 : SCHED_ATTR_SIZE_VER1
  all.writeUInt32LE(known, 0)
  all.fill(0, ...DEADLINE)
  return all.subarray(0, known)
}

const forms: readonly Form[] = [
  {
    name: 'sched_setscheduler',
    pointer: 2,
    screen: (args) => screenPolicy(args.int(1) & ~SCHED_RESET_ON_FORK),
    read(args, at, caller) {
      const [policy, priority] = [args.int(1), readPriority(at, caller)]
      return {
        policy: policy & ~SCHED_RESET_ON_FORK,
        priority,
        to: { by: 'sched_setscheduler', policy, priority },
      }
    },
  },
  {
    name: 'sched_setparam',
    pointer: 1,
    screen: () => undefined,
    read(_args, at, caller) {
      const priority = readPriority(at, caller)
      return { policy: undefined, priority, to: { by: 'sched_setparam', priority } }
    },
  },
  {
    name: 'sched_setattr',
    pointer: 1,
    screen: (args) => (args.uint(2) === 0 ? undefined : continueWith('invalidArguments')),
    read(_args, at, caller) {
      const attr = readAttr(at, caller)
      const { policy, priority, flags } = decodeSchedAttr(attr)
      // Even where the policy is to be kept the kernel wants this one not to be negative.
      if ((flags & ~FLAGS) !== 0n || policy > 0x7fff_ffff) throw new ContinueError('schedulingNotServed', policy)
      const has = (flag: number): boolean => (flags & BigInt(flag)) !== 0n
      return {
        policy: has(SCHED_FLAG.KEEP_POLICY) ? undefined : policy,
        // The kernel then changes neither, whatever is said.
        priority: has(SCHED_FLAG.KEEP_PARAMS) ? 0 : priority,
        to: { by: 'sched_setattr', attr },
      }
    },
  },
]

const screenPolicy = (policy: number): Verdict | undefined =>
  SERVED.has(policy) ? undefined : continueWith('schedulingNotServed', policy >>> 0)

/**
 * What is asked for must be within the policy, and so must be what the task has now: else the host gave it that, and to
 * change a part of it (a flag, its policy but not its priority) would carry more than the policy allows on to children.
 */
function decide({ pid, policy, priority, to }: Request, caller: Caller, { schedSetscheduler }: Policy): Verdict {
  if (!schedSetscheduler) return continueWith('keyOff')
  const { maxPriority } = schedSetscheduler
  if (policy !== undefined && !SERVED.has(policy)) return continueWith('schedulingNotServed', policy)
  if (priority < 0 || priority > RT_PRIORITY_MAX) return continueWith('invalidArguments')
  if (priority > maxPriority)
    return policy === undefined || hasPriority(policy)
      ? continueWith('priorityTooHigh', priority, maxPriority)
      : continueWith('invalidArguments')
  if (!caller.inInitialUserns) return continueWith('childUserns')
  if (!caller.holds('SYS_NICE')) return continueWith('lacksCapability', capNumber('SYS_NICE'))
  const task = caller.task(pid)
  const now = schedulingOf(task.tid)
  if (!SERVED.has(now.policy) || now.priority > maxPriority) return continueWith('scheduledByHost')
  return act({ verb: 'schedule', task, to })
}

const family = ({ name, pointer, screen, read }: Form): Syscall<Request> => ({
  names: [name],
  screen(args, { schedSetscheduler }) {
    if (args.int(0) < 0 || args.pointer(pointer) === 0n) return continueWith('invalidArguments')
    return schedSetscheduler ? screen(args) : continueWith('keyOff')
  },
  decode: (args, caller) => ({ pid: args.int(0), ...read(args, args.pointer(pointer), caller) }),
  decide,
})

/**
 * sched_setscheduler(2), sched_setparam(2) and sched_setattr(2): one decision, and each is done by itself, since they differ
 * in what they leave as it is (a nice value, a time slice).
 */
export const sched = forms.map(family)
