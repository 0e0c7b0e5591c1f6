import { capNumber } from '../abi/credentials.ts'
import {
  decodeSchedAttr,
  IOPRIO_WHO,
  MAX_NICE,
  MIN_NICE,
  PRIO,
  RT_PRIORITY_MAX,
  SCHED,
  SCHED_ATTR_LIMIT,
  SCHED_ATTR_SIZE_VER0,
  SCHED_ATTR_SIZE_VER1,
  SCHED_FLAG,
  SCHED_RESET_ON_FORK,
} from '../abi/sched.ts'
import type { Scheduling } from '../calls/act.ts'
import type { Caller, MemoryReader, Registers } from '../calls/caller.ts'
import type { Syscall } from '../calls/syscall.ts'
import { act, ContinueError, continueWith, type Verdict } from '../calls/verdict.ts'
import type { Policy } from '../policy/policy.ts'

interface Request {
  readonly pid: number
  /** The policy; undefined to keep the task's own. */
  readonly policy: number | undefined
  /** The real-time priority; 0 for none, or to keep the task's own. */
  readonly priority: number
  readonly to: Scheduling
}

/** How one of the three calls differs from the others. */
interface Form {
  readonly name: Scheduling['by']
  /** The index of the register with the pointer. */
  readonly pointer: 1 | 2
  /** Judges the policy if it is in a register, and whether the registers are valid. */
  screen(args: Registers): Verdict | undefined
  read(args: Registers, at: bigint, memory: MemoryReader): Omit<Request, 'pid'>
}

const SERVED: ReadonlySet<number> = new Set([SCHED.OTHER, SCHED.FIFO, SCHED.RR, SCHED.BATCH, SCHED.IDLE])
/** SCHED_DEADLINE can take a processor for itself, and the scheduler of SCHED_EXT is the host's. */
const NOT_SERVED: ReadonlySet<number> = new Set([SCHED.DEADLINE, SCHED.EXT])
const hasPriority = (policy: number): boolean => policy === SCHED.FIFO || policy === SCHED.RR
const FLAGS = BigInt(Object.values(SCHED_FLAG).reduce<number>((all, flag) => all | flag, 0))

/** The byte range of the deadline and the period, which only SCHED_DEADLINE has. */
const DEADLINE = [32, 48] as const

/** Reads `struct sched_param`, which is one int. */
function readPriority(at: bigint, memory: MemoryReader): number {
  const bytes = memory.bytes(at, 4)
  return new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true)
}

/**
 * Copies `struct sched_attr` as the kernel does: size 0 means the first version, and all beyond the last version must
 * be zero. The copy contains its own size, since the size in the caller's memory may have changed, and neither a
 * deadline nor a period: a task whose policy is kept may have SCHED_DEADLINE from the host.
 *
 * @see linux/kernel/sched/syscalls.c sched_copy_attr()
 */
function readAttr(at: bigint, memory: MemoryReader): Uint8Array {
  const first = memory.bytes(at, SCHED_ATTR_SIZE_VER0)
  const size = new DataView(first.buffer, first.byteOffset).getUint32(0, true) || SCHED_ATTR_SIZE_VER0
  if (size < SCHED_ATTR_SIZE_VER0 || size > SCHED_ATTR_LIMIT) throw new ContinueError('invalidArguments')
  const rest = size - SCHED_ATTR_SIZE_VER0
  const all = rest > 0 ? Buffer.concat([first, memory.bytes(at + BigInt(first.length), rest)]) : Buffer.from(first)
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
    read(args, at, memory) {
      const [policy, priority] = [args.int(1), readPriority(at, memory)]
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
    read(_args, at, memory) {
      const priority = readPriority(at, memory)
      return { policy: undefined, priority, to: { by: 'sched_setparam', priority } }
    },
  },
  {
    name: 'sched_setattr',
    pointer: 1,
    screen: (args) => (args.uint(2) === 0 ? undefined : continueWith('invalidArguments')),
    read(_args, at, memory) {
      const attr = readAttr(at, memory)
      const { policy, priority, flags } = decodeSchedAttr(attr)
      // Even with KEEP_POLICY the kernel requires a policy that is not negative.
      if (policy > 0x7fff_ffff) throw new ContinueError('invalidArguments')
      if ((flags & ~FLAGS) !== 0n) throw new ContinueError('schedulingNotServed', policy)
      const has = (flag: number): boolean => (flags & BigInt(flag)) !== 0n
      return {
        policy: has(SCHED_FLAG.KEEP_POLICY) ? undefined : policy,
        // With KEEP_PARAMS the kernel ignores the priority.
        priority: has(SCHED_FLAG.KEEP_PARAMS) ? 0 : priority,
        to: { by: 'sched_setattr', attr },
      }
    },
  },
]

const screenPolicy = (policy: number): Verdict | undefined => {
  if (SERVED.has(policy)) return undefined
  return NOT_SERVED.has(policy) ? continueWith('schedulingNotServed', policy) : continueWith('invalidArguments')
}

/**
 * Requires that both the requested scheduling and the task's present one are within the policy. Otherwise the host
 * set the present one, and changing a part of it (a flag, the policy but not the priority) would pass on to children
 * more than the policy allows.
 */
function decide({ pid, policy, priority, to }: Request, caller: Caller, { schedSetscheduler }: Policy): Verdict {
  if (!schedSetscheduler) return continueWith('keyOff')
  const { maxPriority } = schedSetscheduler
  const wrong = policy === undefined ? undefined : screenPolicy(policy)
  if (wrong) return wrong
  if (priority < 0 || priority > RT_PRIORITY_MAX) return continueWith('invalidArguments')
  if (priority > maxPriority)
    return policy === undefined || hasPriority(policy)
      ? continueWith('priorityTooHigh', priority, maxPriority)
      : continueWith('invalidArguments')
  const left = unlessNice(caller)
  if (left) return left
  const task = caller.task(pid)
  const now = caller.scheduling(task)
  if (!SERVED.has(now.policy) || now.priority > maxPriority) return continueWith('scheduledByHost')
  return act({ verb: 'schedule', task, to }, 'done', priority)
}

/** Returns why the kernel would not hear a caller about every task of the container. */
function unlessNice(caller: Caller): Verdict | undefined {
  if (!caller.inInitialUserns) return continueWith('childUserns')
  return caller.holds('SYS_NICE') ? undefined : continueWith('lacksCapability', capNumber('SYS_NICE'))
}

const family = ({ name, pointer, screen, read }: Form): Syscall<Request> => ({
  name,
  key: 'sched_setscheduler',
  trapped: "all: the priority is in memory, and for another user's task every policy requires CAP_SYS_NICE",
  screen(args, { schedSetscheduler }) {
    if (args.int(0) < 0 || args.pointer(pointer) === 0n) return continueWith('invalidArguments')
    return schedSetscheduler ? screen(args) : continueWith('keyOff')
  },
  decode: (args, memory) => ({ pid: args.int(0), ...read(args, args.pointer(pointer), memory) }),
  decide,
})

interface OneTask {
  readonly who: number
  readonly to: Scheduling
}

/** How one of the two calls whose registers say everything differs from the other. */
interface Plain extends Pick<Syscall<OneTask>, 'name' | 'key' | 'trapped'> {
  /** What `which` is if one process or thread is meant. */
  readonly which: number
  /** Judges the value. */
  screen(value: number, options: NonNullable<Policy['schedSetscheduler']>): Verdict | undefined
  to(value: number): Scheduling
}

const plain = ({ name, key, trapped, which, screen, to }: Plain): Syscall<OneTask> => ({
  ...{ name, key, trapped },
  when: [[{ arg: 0, mask: 0xffff_ffffn, equals: BigInt(which) }]],
  screen(args, { schedSetscheduler }) {
    if (!schedSetscheduler) return continueWith('keyOff')
    if (args.int(0) !== which) return continueWith('severalTasks')
    return args.int(1) < 0 ? continueWith('noSuchTask') : screen(args.int(2), schedSetscheduler)
  },
  decode: (args) => ({ who: args.int(1), to: to(args.int(2)) }),
  decide({ who, to: asked }, caller) {
    const nice = asked.by === 'setpriority' ? asked.nice : 0
    return unlessNice(caller) ?? act({ verb: 'schedule', task: caller.task(who), to: asked }, 'done', nice)
  },
})

/** The kernel takes what is beyond for the ends: linux/kernel/sys.c setpriority() */
const niceOf = (value: number): number => Math.min(Math.max(value, MIN_NICE), MAX_NICE)

/**
 * The handlers of setpriority(2) and ioprio_set(2). The kernel asks CAP_SYS_NICE for a lower nice value than the task
 * has, for the real-time class of I/O, and for every task of another user.
 */
export const taskPriorities = [
  plain({
    name: 'setpriority',
    key: 'sched_setscheduler.min_nice',
    trapped: 'one process or thread is meant (PRIO_PROCESS)',
    which: PRIO.PROCESS,
    screen(value, { minNice }) {
      const nice = niceOf(value)
      return nice < minNice ? continueWith('niceTooLow', nice, minNice) : undefined
    },
    to: (value) => ({ by: 'setpriority', nice: niceOf(value) }),
  }),
  plain({
    name: 'ioprio_set',
    key: 'sched_setscheduler.ioprio',
    trapped: 'one process or thread is meant (IOPRIO_WHO_PROCESS)',
    which: IOPRIO_WHO.PROCESS,
    screen: (_, { ioprio }) => (ioprio ? undefined : continueWith('keyOff')),
    to: (ioprio) => ({ by: 'ioprio_set', ioprio }),
  }),
]

/**
 * The handlers of sched_setscheduler(2), sched_setparam(2) and sched_setattr(2). They share one decision, but each
 * call is made as it is, since they differ in what they leave unchanged (a nice value, a time slice). Every one of
 * these calls is trapped: the priority (and for sched_setattr the policy) is in memory, and even a policy that is not
 * real-time needs CAP_SYS_NICE on a task of another user (kernel/sched/syscalls.c user_check_sched_setscheduler()).
 */
export const sched = forms.map(family)
