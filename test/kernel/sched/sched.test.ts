import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SCHED } from '../../../src/abi/sched.ts'
import type { ReasonCode } from '../../../src/calls/reasons.ts'
import { fixture, noI386 } from '../../support/fixtures.ts'
import { Host, USERNS } from '../../support/host.ts'
import { Look, type Scheduled, World } from '../../support/sched-world.ts'
import { lacks, withReason } from '../../support/skipped.ts'

const MAX = 49
const MIN_NICE = -10
const NORMAL = { policy: SCHED.OTHER, nice: 0, priority: 0, flags: 0 }

let host: Host
let look: Look
let world: World

beforeAll(async () => {
  host = await Host.start({ schedSetscheduler: { maxPriority: MAX, minNice: MIN_NICE, ioprio: true } })
  look = new Look()
  const container = [fixture('filtered'), host.socket, '--userns', USERNS, '--pidns', '--sched', '--await-agent', '--']
  world = await World.start([...container, fixture('sched-world')])
})
afterAll(async () => {
  await world?.close()
  look?.close()
  host?.close()
})

interface Asked {
  readonly policy: number
  readonly priority: number
}

const hex = (bytes: Buffer): string => bytes.toString('hex')
function int(value: number): string {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  return hex(bytes)
}
function attr({ policy, priority }: Asked, size: number, flags = 0n): string {
  const bytes = Buffer.alloc(size)
  bytes.writeUInt32LE(size, 0)
  bytes.writeUInt32LE(policy, 4)
  bytes.writeBigUInt64LE(flags, 8)
  bytes.writeInt32LE(priority, 20)
  return hex(bytes)
}

interface Form {
  readonly name: string
  readonly line: (pid: number, asked: Asked) => string
  /** It keeps the policy that the task has: so that must be the one that is asked for. */
  readonly keeps?: true
}

const setscheduler = (number: string): Form['line'] => {
  return (pid, { policy, priority }) => `${number} i:${pid} i:${policy} p:${int(priority)}`
}
const setparam = (number: string): Form['line'] => {
  return (pid, { priority }) => `${number} i:${pid} p:${int(priority)}`
}
const setattr = (number: string, size: number): Form['line'] => {
  return (pid, asked) => `${number} i:${pid} p:${attr(asked, size)} i:0`
}

/** The same request by each call, in both architectures' numbers. */
const forms: readonly Form[] = [
  { name: 'sched_setscheduler', line: setscheduler('144') },
  { name: 'sched_setparam', line: setparam('142'), keeps: true },
  { name: 'sched_setattr of 48 bytes', line: setattr('314', 48) },
  { name: 'sched_setattr of 56 bytes', line: setattr('314', 56) },
  { name: 'sched_setscheduler of i386', line: setscheduler('i386 156') },
  { name: 'sched_setparam of i386', line: setparam('i386 154'), keeps: true },
  { name: 'sched_setattr of i386', line: setattr('i386 351', 56) },
]

async function call(caller: string, line: string) {
  host.drain()
  const before = host.records.length
  const { result, bytes } = await world.call(caller, line)
  await host.settle(before)
  return { result, bytes, records: host.records.slice(before) }
}

interface Row {
  readonly what: string
  readonly caller?: string
  readonly target?: string
  readonly asked?: Asked
  readonly result: string
  readonly reason: ReasonCode
}

const RR_5 = { policy: SCHED.RR, priority: 5 }
const FIFO = { policy: SCHED.FIFO, priority: 10 }
const rows: readonly Row[] = [
  { what: 'the caller itself', result: 'ok', reason: 'done' },
  { what: 'the caller itself, a thread', caller: 'root2', result: 'ok', reason: 'done' },
  { what: 'another process', target: 'peer', result: 'ok', reason: 'done' },
  { what: 'a thread of another process', target: 'peer2', result: 'ok', reason: 'done' },
  { what: 'a process of another user', target: 'peeru', result: 'ok', reason: 'done' },
  { what: 'a thread of another user', target: 'peeru2', result: 'ok', reason: 'done' },
  { what: 'a process in a child user namespace', target: 'sub', result: 'ok', reason: 'done' },
  { what: 'a process in a nested pid namespace', target: 'far', result: 'ok', reason: 'done' },
  { what: 'a thread in a nested pid namespace', target: 'far2', result: 'ok', reason: 'done' },
  { what: 'a thread by its nested number', caller: 'nest2', target: 'far2', result: 'ok', reason: 'done' },
  {
    what: 'the init of a nested pid namespace by itself',
    caller: 'nest',
    target: 'nest',
    result: 'ok',
    reason: 'done',
  },
  { what: 'a dead process', target: 'zomb', result: 'ok', reason: 'done' },
  { what: 'SCHED_RR', asked: { policy: SCHED.RR, priority: MAX }, result: 'ok', reason: 'done' },
  { what: 'SCHED_BATCH', asked: { policy: SCHED.BATCH, priority: 0 }, result: 'ok', reason: 'done' },
  { what: 'SCHED_IDLE', asked: { policy: SCHED.IDLE, priority: 0 }, result: 'ok', reason: 'done' },
  { what: 'one of the other namespace', caller: 'nest', target: 'peer', result: 'ESRCH', reason: 'noSuchTask' },
  { what: 'nobody', target: 'nobody', result: 'ESRCH', reason: 'noSuchTask' },
  { what: 'by a user', caller: 'user', result: 'EPERM', reason: 'lacksCapability' },
  { what: 'by a thread of a user', caller: 'user2', result: 'EPERM', reason: 'lacksCapability' },
  { what: 'by root of a child user namespace', caller: 'child', result: 'EPERM', reason: 'childUserns' },
  {
    what: 'a priority above the highest',
    asked: { policy: SCHED.FIFO, priority: MAX + 1 },
    result: 'EPERM',
    reason: 'priorityTooHigh',
  },
  {
    what: 'a priority that there is not',
    asked: { policy: SCHED.FIFO, priority: 100 },
    result: 'EINVAL',
    reason: 'invalidArguments',
  },
  { what: 'no priority', asked: { policy: SCHED.FIFO, priority: 0 }, result: 'EINVAL', reason: 'kernelAnswered' },
  {
    what: 'a priority without meaning',
    asked: { policy: SCHED.OTHER, priority: 1 },
    result: 'EINVAL',
    reason: 'kernelAnswered',
  },
  {
    what: 'a priority below zero',
    asked: { policy: SCHED.FIFO, priority: -1 },
    result: 'EINVAL',
    reason: 'invalidArguments',
  },
  {
    what: 'an unknown policy',
    asked: { policy: 4, priority: 1 },
    result: 'EINVAL',
    reason: 'invalidArguments',
  },
  {
    what: 'a negative policy',
    asked: { policy: 0xffff_ffff, priority: 1 },
    result: 'EINVAL',
    reason: 'invalidArguments',
  },
]

/** How a task is scheduled before it keeps its policy. */
const keeping = ({ policy }: Asked): Scheduled => {
  return { ...NORMAL, policy, priority: policy === SCHED.FIFO || policy === SCHED.RR ? 1 : 0 }
}
/** Without this feature only the caller and the first thread of its process are found by their numbers. */
const untranslated = lacks('pidTranslation')
const cannot = (number: string, { caller = 'root', target = caller }: Partial<Row>): string | undefined =>
  (number.includes('i386') ? noI386 : undefined) ?? (target === caller ? undefined : untranslated)
const isPolicy = ({ asked = FIFO }: Row): boolean => Object.values<number>(SCHED).includes(asked.policy)

describe.each(forms)('$name', ({ name, line, keeps }) => {
  test.for(keeps ? rows.filter(isPolicy) : rows)('$what: $result', async (row, { skip }) => {
    const why = cannot(name, row)
    if (why) skip(why)
    const { caller = 'root', target = 'self', asked = FIFO, result, reason } = row
    const hit = target === 'self' ? caller : target
    const seen = hit === 'nobody' ? undefined : world.tid(hit)
    const before = keeps ? keeping(asked) : NORMAL
    if (seen !== undefined) await look.set(seen, before)
    const done = await call(caller, line(world.number(caller, target), asked))
    expect(done).toMatchObject({ result, records: [{ reason }] })
    if (seen !== undefined) expect(await look.get(seen)).toMatchObject(result === 'ok' ? asked : before)
  })
})

/** By both architectures' numbers. */
describe.each(['141', 'i386 97'])('setpriority by %s', (number) => {
  test.for<Row & { readonly which?: number; readonly nice: number; readonly is?: number }>([
    { what: 'the caller itself', nice: -10, result: 'ok', reason: 'done' },
    { what: 'a thread of its own', caller: 'root2', nice: -10, result: 'ok', reason: 'done' },
    { what: 'a thread of another user', target: 'peeru2', nice: -1, result: 'ok', reason: 'done' },
    { what: 'a thread in a nested pid namespace', target: 'far2', nice: -1, result: 'ok', reason: 'done' },
    { what: 'a higher value', target: 'peer', nice: 7, result: 'ok', reason: 'done' },
    { what: 'a value beyond the highest', nice: 50, is: 19, result: 'ok', reason: 'done' },
    { what: 'below the lowest of the policy', nice: -11, result: 'EACCES', reason: 'niceTooLow' },
    { what: 'far below it', nice: -0x8000_0000, result: 'EACCES', reason: 'niceTooLow' },
    { what: 'nobody', target: 'nobody', nice: 1, result: 'ESRCH', reason: 'noSuchTask' },
    { what: 'by a user', caller: 'user', nice: -1, result: 'EACCES', reason: 'lacksCapability' },
    { what: 'by a user, who only lowers', caller: 'user', nice: 3, result: 'ok', reason: 'lacksCapability' },
    { what: 'by root of a child user namespace', caller: 'child', nice: -1, result: 'EACCES', reason: 'childUserns' },
    { what: 'a process group', caller: 'nest', which: 1, nice: -1, result: 'EPERM', reason: 'severalTasks' },
    { what: 'what there is not', which: 3, nice: -1, result: 'EINVAL', reason: 'severalTasks' },
  ])('$what: $result', async (row, { skip }) => {
    const why = cannot(number, row)
    if (why) skip(why)
    const { caller = 'root', target = 'self', which = 0, nice, is = nice, result, reason } = row
    const hit = target === 'self' ? caller : target
    const tid = hit === 'nobody' ? undefined : world.tid(hit)
    if (tid !== undefined) await look.set(tid, NORMAL)
    const done = await call(caller, `${number} i:${which} i:${world.number(caller, target)} i:${nice}`)
    expect(done).toMatchObject({ result, records: [{ reason }] })
    if (tid !== undefined) expect(await look.get(tid)).toEqual({ ...NORMAL, nice: result === 'ok' ? is : 0 })
  })

  test('the nice value of a real-time task changes, and its priority stays', async ({ skip }) => {
    const why = cannot(number, {})
    if (why) skip(why)
    await look.set(world.tid('root'), { ...NORMAL, ...RR_5 })
    expect(await call('root', `${number} i:0 i:0 i:-5`)).toMatchObject({ result: 'ok' })
    expect(await look.get(world.tid('root'))).toMatchObject(RR_5)
    expect(await call('root', `144 i:0 i:${SCHED.OTHER} p:${int(0)}`)).toMatchObject({ result: 'ok' })
    expect(await look.get(world.tid('root'))).toMatchObject({ policy: SCHED.OTHER, nice: -5 })
  })
})

const REALTIME = 1 << 13
const BEST_EFFORT = 2 << 13
describe.each(['251', 'i386 289'])('ioprio_set by %s', (number) => {
  test.for<Row & { readonly which?: number; readonly io: number }>([
    { what: 'the caller itself', io: REALTIME | 2, result: 'ok', reason: 'done' },
    { what: 'another process', target: 'peer', io: REALTIME, result: 'ok', reason: 'done' },
    { what: 'a thread of another user', target: 'peeru2', io: BEST_EFFORT | 7, result: 'ok', reason: 'done' },
    { what: 'a class that there is not', io: 5 << 13, result: 'EINVAL', reason: 'kernelAnswered' },
    { what: 'nobody', target: 'nobody', io: BEST_EFFORT, result: 'ESRCH', reason: 'noSuchTask' },
    { what: 'by a user', caller: 'user', io: REALTIME, result: 'EPERM', reason: 'lacksCapability' },
    {
      what: 'by a user, what anybody may',
      caller: 'user',
      io: BEST_EFFORT | 1,
      result: 'ok',
      reason: 'lacksCapability',
    },
    {
      what: 'by root of a child user namespace',
      caller: 'child',
      io: REALTIME,
      result: 'EPERM',
      reason: 'childUserns',
    },
    { what: 'a user', which: 3, io: REALTIME, result: 'EPERM', reason: 'severalTasks' },
  ])('$what: $result', async (row, { skip }) => {
    const why = cannot(number, row)
    if (why) skip(why)
    const { caller = 'root', target = 'self', which = 1, io, result, reason } = row
    const hit = target === 'self' ? caller : target
    const tid = hit === 'nobody' ? undefined : world.tid(hit)
    if (tid !== undefined) await look.set(tid, NORMAL)
    const before = tid === undefined ? 0 : await look.io(tid)
    const done = await call(caller, `${number} i:${which} i:${world.number(caller, target)} i:${io}`)
    expect(done).toMatchObject({ result, records: [{ reason }] })
    if (tid !== undefined) expect(await look.io(tid)).toBe(result === 'ok' ? io : before)
  })
})

describe('arguments of sched_* that are not valid get the errno of the kernel', () => {
  const fifo = attr(FIFO, 48)
  const sized = (size: number, bytes: string): string => hex(Buffer.concat([uint(size), Buffer.from(bytes, 'hex')]))
  const uint = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer)
  const rest = fifo.slice(8)

  test.each<{ what: string; line: string; result: string; reason: ReasonCode; size?: number }>([
    { what: 'no pointer', line: '144 i:0 i:1 null:', result: 'EINVAL', reason: 'invalidArguments' },
    { what: 'no pointer of parameters', line: '142 i:0 null:', result: 'EINVAL', reason: 'invalidArguments' },
    { what: 'no pointer of attributes', line: '314 i:0 null: i:0', result: 'EINVAL', reason: 'invalidArguments' },
    { what: 'a number below zero', line: '144 i:-1 i:1 p:05000000', result: 'EINVAL', reason: 'invalidArguments' },
    { what: 'unmapped', line: '144 i:0 i:1 unmapped:', result: 'EFAULT', reason: 'unreadable' },
    { what: 'unmapped parameters', line: '142 i:0 unmapped:', result: 'EFAULT', reason: 'unreadable' },
    { what: 'unmapped attributes', line: '314 i:0 unmapped: i:0', result: 'EFAULT', reason: 'unreadable' },
    { what: 'a priority over the edge', line: '144 i:0 i:1 cross:05000000', result: 'EFAULT', reason: 'unreadable' },
    { what: 'a priority at the edge', line: '144 i:0 i:1 edge:05000000', result: 'ok', reason: 'done' },
    { what: 'attributes over the edge', line: `314 i:0 cross:${fifo} i:0`, result: 'EFAULT', reason: 'unreadable' },
    { what: 'attributes at the edge', line: `314 i:0 edge:${fifo} i:0`, result: 'ok', reason: 'done' },
    {
      what: 'a rest over the edge',
      line: `314 i:0 cross:${attr(FIFO, 56)} i:0`,
      result: 'EFAULT',
      reason: 'unreadable',
    },
    { what: 'flags of the call', line: `314 i:0 p:${fifo} i:1`, result: 'EINVAL', reason: 'invalidArguments' },
    { what: 'the size 0', line: `314 i:0 p:${sized(0, rest)} i:0`, result: 'ok', reason: 'done', size: 0 },
    {
      what: 'a size below the first form',
      line: `314 i:0 p:${sized(47, rest)} i:0`,
      result: 'E2BIG',
      reason: 'invalidArguments',
      size: 56,
    },
    {
      what: 'a size below the first form at the edge',
      line: `314 i:0 edge:${sized(4, '')} i:0`,
      result: 'E2BIG',
      reason: 'unreadable',
      size: 56,
    },
    {
      what: 'a size above a page',
      line: `314 i:0 p:${sized(4097, rest)} i:0`,
      result: 'E2BIG',
      reason: 'invalidArguments',
      size: 56,
    },
    { what: 'zeros after the last form', line: `314 i:0 p:${attr(FIFO, 128)} i:0`, result: 'ok', reason: 'done' },
    {
      what: 'something after the last form',
      line: `314 i:0 p:${attr(FIFO, 128).slice(0, -2)}01 i:0`,
      result: 'E2BIG',
      reason: 'invalidArguments',
      size: 56,
    },
    {
      what: 'an unknown flag',
      line: `314 i:0 p:${attr(FIFO, 48, 0x80n)} i:0`,
      result: 'EINVAL',
      reason: 'schedulingNotServed',
    },
    {
      what: 'a clamp in the first form',
      line: `314 i:0 p:${attr(FIFO, 48, 0x20n)} i:0`,
      result: 'EINVAL',
      reason: 'kernelAnswered',
    },
  ])('$what: $result', async ({ line, result, reason, size }) => {
    await look.set(world.tid('root'), NORMAL)
    const { bytes, ...done } = await call('root', line)
    expect(done).toMatchObject({ result, records: [{ reason }] })
    if (size !== undefined) expect(Buffer.from(bytes, 'hex').readUInt32LE()).toBe(size)
  })
})

describe.skipIf(untranslated)(withReason('parameters that are kept or not', untranslated), () => {
  const onPeer = (asked: Asked, flags: bigint): string =>
    `314 i:${world.number('root', 'peer')} p:${attr(asked, 56, flags)} i:0`

  test.each<{ what: string; from: object; line: () => string; to: object; result?: string; reason?: ReasonCode }>([
    {
      what: 'a nice value, by sched_setscheduler',
      from: { nice: 7 },
      line: () => `144 i:${world.number('root', 'peer')} i:${SCHED.BATCH} p:${int(0)}`,
      to: { policy: SCHED.BATCH, nice: 7 },
    },
    { what: 'no nice value, by sched_setattr', from: { nice: 7 }, line: () => onPeer(NORMAL, 0n), to: { nice: 0 } },
    { what: 'the policy', from: RR_5, line: () => onPeer(FIFO, 0x08n), to: { policy: SCHED.RR, priority: 10 } },
    { what: 'the priority, and so the policy', from: RR_5, line: () => onPeer(FIFO, 0x10n), to: RR_5 },
    { what: 'both', from: RR_5, line: () => onPeer(FIFO, 0x18n), to: RR_5 },
    { what: 'no reset on fork', from: { flags: 1 }, line: () => onPeer(FIFO, 0n), to: { ...FIFO, flags: 0 } },
    { what: 'a new reset on fork', from: {}, line: () => onPeer(FIFO, 1n), to: { ...FIFO, flags: 1 } },
    {
      what: 'a reset on fork by the old call',
      from: {},
      line: () => `144 i:${world.number('root', 'peer')} i:${0x4000_0001} p:${int(10)}`,
      to: { ...FIFO, flags: 1 },
    },
    {
      what: 'what the host gave: a higher priority',
      from: { policy: SCHED.RR, priority: MAX + 1, flags: 1 },
      line: () => onPeer(FIFO, 0n),
      to: { policy: SCHED.RR, priority: MAX + 1, flags: 1 },
      result: 'EPERM',
      reason: 'scheduledByHost',
    },
  ])('$what', async ({ from, line, to, result = 'ok', reason = 'done' }) => {
    await look.set(world.tid('peer'), { ...NORMAL, ...from })
    expect(await call('root', line())).toMatchObject({ result, records: [{ reason }] })
    expect(await look.get(world.tid('peer'))).toMatchObject({ ...NORMAL, ...to })
  })
})

describe.skipIf(untranslated)(withReason('numbers of tasks', untranslated), () => {
  const strangers: ChildProcess[] = []
  const stranger = (): number => {
    const child = spawn('sleep', ['100'], { stdio: 'ignore' })
    strangers.push(child)
    return child.pid!
  }
  afterAll(() => {
    for (const child of strangers) child.kill('SIGKILL')
  })

  test('a process of the host that bears the same number keeps its policy', async () => {
    const number = stranger()
    const script = `${fixture('pid-at')} ${number} sleep 10 | { read pid; chrt -f -p 10 $pid && chrt -p $pid; kill $pid; }`
    const before = host.records.length
    const { stdout } = await host.run(['--pidns', '--sched'], ['sh', '-c', script])
    await host.settle(before)
    expect(stdout).toMatch(new RegExp(`pid ${number}'s current scheduling policy: SCHED_FIFO\n.*priority: 10`))
    expect(await look.get(number)).toEqual(NORMAL)
  })

  test('a process of the host that came into the pid namespace of the container keeps its policy', async () => {
    const inside = ['--target', `${world.tid('root')}`, '--pid', 'sh', '-c', 'echo $$; exec sleep 100']
    const child = spawn('nsenter', inside, { stdio: ['ignore', 'pipe', 'ignore'] })
    strangers.push(child)
    const number = Number((await once(child.stdout, 'data')).toString())
    const done = await call('root', `144 i:${number} i:1 p:${int(10)}`)
    expect(done).toMatchObject({ result: 'EPERM', records: [{ reason: 'outsideContainer' }] })
  })

  test('in the pid namespace of the host mean only tasks of the container', async () => {
    const number = stranger()
    const script = `chrt -f -p 10 ${number}; sleep 10 & chrt -r -p 11 $! && chrt -p $!; kill $!`
    host.drain()
    const before = host.records.length
    const { stdout, stderr } = await host.run(['--sched'], ['sh', '-c', script])
    await host.settle(before + 1)
    expect(stderr).toMatch('Operation not permitted')
    expect(stdout).toMatch('SCHED_RR')
    expect(host.records.slice(before)).toMatchObject([{ reason: 'outsideContainer' }, { reason: 'done' }])
    expect(await look.get(number)).toEqual(NORMAL)
  })

  test('leave no descriptor of a task behind', async () => {
    const line = `144 i:${world.number('root', 'far2')} i:0 p:${int(0)}`
    expect(await call('root', line)).toMatchObject({ result: 'ok', records: [{ reason: 'done' }] })
    const { engineFds } = host.footprint
    for (let turn = 0; turn < 50; turn++) await world.call('root', line)
    const unseen = `144 i:${world.number('nest', 'peer')} i:0 p:${int(0)}`
    expect(await call('nest', unseen)).toMatchObject({ result: 'ESRCH' })
    for (let turn = 0; turn < 50; turn++) await world.call('nest', unseen)
    // Fewer, if a container of the tests before has just ended.
    expect(host.footprint.engineFds).toBeLessThanOrEqual(engineFds)
  })
})
