// sched_setscheduler(2), sched_setparam(2), sched_setattr(2), setpriority(2) and ioprio_set(2), by man-pages,
// kernel/sched/syscalls.c, kernel/sys.c and block/ioprio.c.

import { SCHED, SCHED_FLAG, SCHED_RESET_ON_FORK } from '../../../src/abi/sched.ts'
import { AS_USER, type Case, each, type Family, steps } from '../case.ts'

const param = (priority: number): string => `t:4@${priority}`
const become = (policy: number, priority: number, task: number | string = 0): string =>
  `sched_setscheduler ${task} ${policy} ${param(priority)}`
/** What the calling thread then has. */
const HAS = steps('%sched_getscheduler 0', 'sched_getparam 0 h:4')
const own = (name: string, ...calls: readonly string[]): Case => ({ name, calls: steps(...calls, HAS) })

const RANGES: readonly (readonly [string, number, readonly number[]])[] = [
  ['SCHED_OTHER', SCHED.OTHER, [0, 1, -1]],
  ['SCHED_FIFO', SCHED.FIFO, [1, 49, 50, 99, 0, 100, -1]],
  ['SCHED_RR', SCHED.RR, [1, 99, 0, 100]],
  ['SCHED_BATCH', SCHED.BATCH, [0, 1]],
  ['SCHED_IDLE', SCHED.IDLE, [0, 1]],
]
const RESET = SCHED_RESET_ON_FORK
const setscheduler: readonly Case[] = [
  ...RANGES.flatMap(([name, policy, priorities]) =>
    priorities.map((priority) => own(`${name} with priority ${priority}`, become(policy, priority))),
  ),
  own('SCHED_FIFO and SCHED_RESET_ON_FORK', become(SCHED.FIFO | RESET, 1)),
  own('SCHED_OTHER and SCHED_RESET_ON_FORK', become(SCHED.OTHER | RESET, 0)),
  own('SCHED_RESET_ON_FORK taken back', become(SCHED.OTHER | RESET, 0), become(SCHED.OTHER, 0)),
  own('back to SCHED_OTHER', become(SCHED.FIFO, 3), become(SCHED.OTHER, 0)),
  own('from SCHED_IDLE to SCHED_OTHER', become(SCHED.IDLE, 0), become(SCHED.OTHER, 0)),
  own('SCHED_DEADLINE, without its times', become(SCHED.DEADLINE, 0)),
  own('a policy that there is not', become(4, 0)),
  own('a policy of -1', become(-1, 0)),
  own('a null parameter', `sched_setscheduler 0 ${SCHED.FIFO} null`),
  own('a parameter at a bad address', `sched_setscheduler 0 ${SCHED.FIFO} bad`),
  own('a task of -1', become(SCHED.FIFO, 1, -1)),
  own('a task that there is not', become(SCHED.FIFO, 1, 4_194_303)),
  own('SCHED_FIFO by a user', AS_USER, become(SCHED.FIFO, 1)),
  own('SCHED_BATCH by a user', AS_USER, become(SCHED.BATCH, 0)),
  own('a lower priority by a user', become(SCHED.FIFO, 5), AS_USER, become(SCHED.FIFO, 3)),
]

const ANOTHER = 'sleep 9 & P=$!'
const OF_A_USER = 'setpriv --reuid 1000 sleep 9 & P=$!; sleep 0.1'
const NICE_OF_IT = 'ps -o ni= -p $P; kill $P'
const IO_OF_IT = 'ionice -p $P; kill $P'
const LOOK = 'chrt -p $P | cut -d: -f2 | xargs; kill $P'
const others: readonly Case[] = each({ before: ANOTHER, shows: LOOK }, [
  { name: 'another process, SCHED_RR with priority 7', calls: become(SCHED.RR, 7, '$P') },
  { name: 'another process, SCHED_IDLE', calls: become(SCHED.IDLE, 0, '$P') },
  { name: 'another process, a parameter that does not fit', calls: become(SCHED.RR, 0, '$P') },
  {
    name: 'a process of another user',
    before: OF_A_USER,
    calls: become(SCHED.RR, 7, '$P'),
  },
  { name: 'a process of another user, by a user', calls: steps(AS_USER, become(SCHED.RR, 7, '$P')) },
])

const setparam: readonly Case[] = [
  own('priority 5 under SCHED_FIFO', become(SCHED.FIFO, 1), `sched_setparam 0 ${param(5)}`),
  own('priority 99 under SCHED_RR', become(SCHED.RR, 1), `sched_setparam 0 ${param(99)}`),
  own('priority 0 under SCHED_FIFO', become(SCHED.FIFO, 1), `sched_setparam 0 ${param(0)}`),
  own('priority 100 under SCHED_FIFO', become(SCHED.FIFO, 1), `sched_setparam 0 ${param(100)}`),
  own('priority 0 under SCHED_OTHER', `sched_setparam 0 ${param(0)}`),
  own('priority 1 under SCHED_OTHER', `sched_setparam 0 ${param(1)}`),
  own('a null parameter', 'sched_setparam 0 null'),
  own('a parameter at a bad address', 'sched_setparam 0 bad'),
  own('a task of -1', `sched_setparam -1 ${param(0)}`),
  own('a task that there is not', `sched_setparam 4194303 ${param(0)}`),
  own('a higher priority by a user', become(SCHED.FIFO, 1), AS_USER, `sched_setparam 0 ${param(5)}`),
]

interface Attr {
  readonly size?: number
  readonly policy?: number
  readonly flags?: number
  readonly nice?: number
  readonly priority?: number
  readonly times?: readonly [number, number, number]
  readonly clamps?: readonly [number, number]
}
function attr({ size, policy = 0, flags = 0, nice = 0, priority = 0, times = [0, 0, 0], clamps }: Attr): string {
  const [runtime, deadline, period] = times
  const first = `t:4@${size ?? (clamps ? 56 : 48)}+4@${policy}+8@${flags}+4@${nice}+4@${priority}+8@${runtime}+8@${deadline}+8@${period}`
  return clamps ? `${first}+4@${clamps[0]}+4@${clamps[1]}` : first
}
const setattr = (attributes: Attr, flags = 0): string => `sched_setattr 0 ${attr(attributes)} ${flags}`
const SHOWN = 'sched_getattr 0 h:48 48 0'
const shown = (name: string, ...calls: readonly string[]): Case => ({ name, calls: steps(...calls, SHOWN) })
const MS = 1_000_000
const setattrs: readonly Case[] = [
  shown('SCHED_OTHER with nice 5', setattr({ nice: 5 })),
  shown('SCHED_OTHER with nice -5', setattr({ nice: -5 })),
  shown('SCHED_OTHER with nice -20', setattr({ nice: -20 })),
  shown('SCHED_OTHER with nice -21, which is -20', setattr({ nice: -21 })),
  shown('SCHED_BATCH with nice -1', setattr({ policy: SCHED.BATCH, nice: -1 })),
  shown('SCHED_IDLE', setattr({ policy: SCHED.IDLE })),
  shown('SCHED_FIFO with priority 10', setattr({ policy: SCHED.FIFO, priority: 10 })),
  shown('SCHED_RR with priority 99', setattr({ policy: SCHED.RR, priority: 99 })),
  shown('SCHED_FIFO with priority 0', setattr({ policy: SCHED.FIFO })),
  shown('SCHED_FIFO with priority 100', setattr({ policy: SCHED.FIFO, priority: 100 })),
  shown('SCHED_OTHER with priority 1', setattr({ priority: 1 })),
  { ...shown('SCHED_DEADLINE', setattr({ policy: SCHED.DEADLINE, times: [MS, 10 * MS, 100 * MS] })), why: 'deadline' },
  shown('SCHED_DEADLINE without times', setattr({ policy: SCHED.DEADLINE })),
  shown('SCHED_FLAG_RESET_ON_FORK', setattr({ policy: SCHED.FIFO, priority: 2, flags: SCHED_FLAG.RESET_ON_FORK })),
  shown('SCHED_FLAG_KEEP_POLICY', become(SCHED.FIFO, 2), setattr({ priority: 4, flags: SCHED_FLAG.KEEP_POLICY })),
  shown(
    'SCHED_FLAG_KEEP_PARAMS',
    become(SCHED.FIFO, 2),
    setattr({ policy: SCHED.FIFO, flags: SCHED_FLAG.KEEP_PARAMS }),
  ),
  shown('SCHED_FLAG_UTIL_CLAMP_MIN', setattr({ flags: SCHED_FLAG.UTIL_CLAMP_MIN, clamps: [100, 1024] })),
  shown('a flag that there is not', setattr({ flags: 0x10000 })),
  shown('a policy that there is not', setattr({ policy: 4 })),
  shown('a size of 0, which is the first one', setattr({ size: 0, nice: 3 })),
  shown('a size that is too short', setattr({ size: 47 })),
  shown('a size beyond a page', setattr({ size: 4097 })),
  shown('flags of the call, of which there are none', setattr({}, 1)),
  shown('a null struct', 'sched_setattr 0 null 0'),
  shown('a struct at a bad address', 'sched_setattr 0 bad 0'),
  shown('a task of -1', `sched_setattr -1 ${attr({})} 0`),
  shown('a task that there is not', `sched_setattr 4194303 ${attr({})} 0`),
  shown('SCHED_OTHER with nice -5, by a user', AS_USER, setattr({ nice: -5 })),
]

const nice = (value: number): string => steps(`setpriority 0 0 ${value}`, '%getpriority 0 0')
const setpriority: readonly Case[] = [
  { name: 'nice 5', calls: nice(5) },
  { name: 'nice 0, after 5', calls: steps(nice(5), nice(0)) },
  { name: 'nice -5', calls: nice(-5) },
  { name: 'nice -21, which is -20', calls: nice(-21) },
  { name: 'nice 20, which is 19', calls: nice(20) },
  { name: 'nice 19, by a user', calls: steps(AS_USER, nice(19)) },
  { name: 'nice -5, by a user', calls: steps(AS_USER, nice(-5)) },
  { name: 'which of 3', calls: 'setpriority 3 0 0' },
  { name: 'a process that there is not', calls: 'setpriority 0 4194303 0' },
  { name: 'a process of -1', calls: 'setpriority 0 -1 0' },
  { name: 'another process', before: ANOTHER, calls: 'setpriority 0 $P -7', shows: NICE_OF_IT },
  {
    name: 'a process of another user',
    before: OF_A_USER,
    calls: 'setpriority 0 $P -7',
    shows: NICE_OF_IT,
  },
  {
    name: 'a process of another user, by a user',
    before: ANOTHER,
    calls: steps(AS_USER, 'setpriority 0 $P 7'),
    shows: NICE_OF_IT,
  },
]

const io = (kind: number, level: number): number => (kind << 13) | level
const ioprio = (value: number): string => steps(`ioprio_set 1 0 ${value}`, '%ioprio_get 1 0')
const ioprios: readonly Case[] = [
  { name: 'the real-time class', calls: ioprio(io(1, 3)) },
  { name: 'the best-effort class', calls: ioprio(io(2, 7)) },
  { name: 'the idle class', calls: ioprio(io(3, 0)) },
  { name: 'no class', calls: ioprio(0) },
  { name: 'no class, with a level', calls: ioprio(4) },
  { name: 'a class that there is not', calls: ioprio(io(4, 0)) },
  { name: 'the real-time class by a user', calls: steps(AS_USER, ioprio(io(1, 3))) },
  { name: 'the best-effort class by a user', calls: steps(AS_USER, ioprio(io(2, 0))) },
  { name: 'which of 4', calls: `ioprio_set 4 0 ${io(2, 4)}` },
  { name: 'a process that there is not', calls: `ioprio_set 1 4194303 ${io(2, 4)}` },
  { name: 'another process', before: ANOTHER, calls: `ioprio_set 1 $P ${io(1, 5)}`, shows: IO_OF_IT },
  { name: 'a process of another user', before: OF_A_USER, calls: `ioprio_set 1 $P ${io(2, 5)}`, shows: IO_OF_IT },
]

export const sched: readonly Family[] = [
  { name: 'sched_setscheduler', cases: [...setscheduler, ...others] },
  { name: 'sched_setparam', cases: setparam },
  { name: 'sched_setattr', cases: setattrs },
  { name: 'setpriority', cases: setpriority },
  { name: 'ioprio_set', cases: ioprios },
]
