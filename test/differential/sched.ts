import fc from 'fast-check'
import type { CallRecord } from '../../src/calls/record.ts'
import { fixture } from '../support/fixtures.ts'
import { Look, type Scheduled, World } from '../support/sched-world.ts'
import { HUNG } from './conversation.ts'
import { weighted, withAims } from './generate.ts'
import { schedDifferences } from './sched-differences.ts'
import { Served } from './served.ts'
import type { Outcome, Sides, Subject, Trial } from './subject.ts'

export interface SchedCase {
  readonly call: 'sched_setscheduler' | 'sched_setparam' | 'sched_setattr' | 'setpriority' | 'ioprio_set'
  readonly caller: string
  readonly target: string
  /** How the target is scheduled before. */
  readonly before: Scheduled
  readonly asked: { readonly policy: number; readonly priority: number }
  readonly resetOnFork: boolean
  readonly pointer: 'p' | 'edge' | 'cross' | 'null' | 'unmapped'
  readonly attr: Attr
  /** Of setpriority(2) and ioprio_set(2), and the value of the latter. */
  readonly isOneTask: boolean
  readonly ioprio: number
  readonly i386: boolean
}

/** What only sched_setattr(2) has. */
interface Attr {
  /** What the structure says about itself; "kept": how long it is. */
  readonly size: number | 'kept'
  readonly length: 48 | 52 | 56 | 64
  readonly flags: number
  readonly nice: number
  /** SCHED_DEADLINE and the time slice, in nanoseconds. */
  readonly times: readonly [runtime: number, deadline: number, period: number]
  /** The last byte of a structure of 64 bytes. */
  readonly tail: number
  readonly callFlags: number
}

/** The highest that the engine gives in this test. */
const MAX = 60
const MIN_NICE = -10
const FIFO = 1
const RR = 2

const CALLERS = weighted([8, 'root'], [3, 'root2'], [2, 'user'], [1, 'user2'], [1, 'child'], [2, 'nest'], [2, 'nest2'])
const TARGETS = weighted(
  ...[[6, 'self'] as const, [3, 'peer'] as const, [3, 'peer2'] as const, [2, 'peeru'] as const, [2, 'peeru2'] as const],
  ...[[2, 'sub'] as const, [3, 'far'] as const, [4, 'far2'] as const, [1, 'zomb'] as const, [2, 'nobody'] as const],
  [1, 'negative'],
)
const NO_TIMES = [0, 0, 0] as const
const DEADLINE_TIMES = [10_000_000, 20_000_000, 20_000_000] as const

/** Most are valid together, in a policy that is served. */
const asked: fc.Arbitrary<SchedCase['asked']> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ policy: fc.constantFrom(FIFO, RR), priority: fc.integer({ min: 1, max: MAX }) }),
  },
  { weight: 3, arbitrary: fc.record({ policy: fc.constantFrom(0, 3, 5), priority: fc.constant(0) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      policy: fc.constantFrom(0, FIFO, RR, 3, 5, 6, 4, -1, 9),
      priority: fc.constantFrom(0, 1, MAX, MAX + 1, 99, 100, -1, 0x7fff_ffff, -0x8000_0000),
    }),
  },
)

const before: fc.Arbitrary<Scheduled> = fc.oneof(
  {
    weight: 1,
    arbitrary: fc.record({
      policy: fc.constantFrom(0, 3, 5),
      nice: fc.integer({ min: -20, max: 19 }),
      priority: fc.constant(0),
      flags: fc.constantFrom(0, 0, 1),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      policy: fc.constantFrom(FIFO, RR),
      nice: fc.constant(0),
      priority: weighted([6, 1], [6, 30], [6, MAX], [1, MAX + 1]),
      flags: fc.constantFrom(0, 0, 1),
    }),
  },
)

const attr: fc.Arbitrary<Attr> = fc.record({
  size: weighted<number | 'kept'>([30, 'kept'], [2, 0], [1, 47], [1, 4096], [1, 4097], [1, 57]),
  length: weighted<Attr['length']>([6, 48], [1, 52], [6, 56], [2, 64]),
  flags: fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(0, 1) },
    { weight: 3, arbitrary: fc.nat(0x1f) },
    { weight: 1, arbitrary: fc.constantFrom(0x20, 0x40, 0x80, 0x1000_0000) },
  ),
  nice: fc.integer({ min: -25, max: 25 }),
  times: fc.oneof(
    { weight: 5, arbitrary: fc.constant(NO_TIMES) },
    { weight: 1, arbitrary: fc.constant(DEADLINE_TIMES) },
  ),
  tail: weighted([3, 0], [1, 1]),
  callFlags: weighted([20, 0], [1, 1]),
})

const usual: fc.Arbitrary<SchedCase> = fc.record({
  call: fc.constantFrom(
    'sched_setscheduler',
    'sched_setparam',
    'sched_setattr',
    'sched_setattr',
    'setpriority',
    'ioprio_set',
  ),
  caller: CALLERS,
  target: TARGETS,
  before,
  asked,
  resetOnFork: fc.boolean(),
  pointer: weighted<SchedCase['pointer']>([30, 'p'], [6, 'edge'], [1, 'cross'], [1, 'null'], [1, 'unmapped']),
  attr,
  isOneTask: weighted([30, true], [1, false]),
  // A class, and a level that mostly exists.
  ioprio: fc
    .tuple(weighted([6, 1], [4, 2], [2, 3], [1, 0], [1, 4]), weighted([8, 4], [4, 0], [1, 7], [1, 8]))
    .map(([kind, level]) => (kind << 13) | level),
  i386: weighted([4, false], [1, true]),
})

const USUAL: Scheduled = { policy: 0, nice: 0, priority: 0, flags: 0 }

const schedCase: fc.Arbitrary<SchedCase> = withAims(
  usual,
  // E2BIG
  ({ attr, ...one }) => ({
    ...{ ...one, call: 'sched_setattr', target: 'self', pointer: 'p' },
    attr: { ...attr, size: 47, length: 56, callFlags: 0 },
  }),
  // EACCES
  ({ attr, ...one }) => ({
    ...{ ...one, call: 'setpriority', caller: 'user', target: 'self', isOneTask: true, before: USUAL },
    attr: { ...attr, nice: -5 },
  }),
  // EFAULT
  ({ attr, ...one }) => ({ ...one, target: 'self', pointer: 'unmapped', attr: { ...attr, callFlags: 0 } }),
)

/** Numbers for x86_64 and for i386. */
const NUMBERS = {
  sched_setscheduler: [144, 156],
  sched_setparam: [142, 154],
  sched_setattr: [314, 351],
  setpriority: [141, 97],
  ioprio_set: [251, 289],
} as const

function pointerTo(bytes: Buffer, { pointer }: SchedCase): string {
  return pointer === 'null' || pointer === 'unmapped' ? `${pointer}:` : `${pointer}:${bytes.toString('hex')}`
}

function param({ asked: { priority } }: SchedCase): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(priority)
  return bytes
}

function attributes({ asked: { policy, priority }, attr }: SchedCase): Buffer {
  const bytes = Buffer.alloc(64)
  bytes.writeUInt32LE(attr.size === 'kept' ? attr.length : attr.size, 0)
  bytes.writeInt32LE(policy, 4)
  bytes.writeBigUInt64LE(BigInt(attr.flags), 8)
  bytes.writeInt32LE(attr.nice, 16)
  bytes.writeInt32LE(priority, 20)
  for (const [index, time] of attr.times.entries()) bytes.writeBigUInt64LE(BigInt(time), 24 + 8 * index)
  bytes[63] = attr.tail
  return bytes.subarray(0, attr.length)
}

/** A line for the fixture; `pid` is the number by which the caller knows the target. */
function lineOf(one: SchedCase, pid: number): string {
  const { call, asked, resetOnFork, attr, isOneTask, ioprio, i386 } = one
  const number = i386 ? `i386 ${NUMBERS[call][1]}` : `${NUMBERS[call][0]}`
  // Of the host, several tasks would be more than those of the test: only what no kernel knows.
  if (call === 'setpriority') return `${number} i:${isOneTask ? 0 : 3} i:${pid} i:${attr.nice}`
  if (call === 'ioprio_set') return `${number} i:${isOneTask ? 1 : 4} i:${pid} i:${ioprio}`
  const args = {
    sched_setscheduler: `i:${resetOnFork ? asked.policy | 0x4000_0000 : asked.policy} ${pointerTo(param(one), one)}`,
    sched_setparam: pointerTo(param(one), one),
    sched_setattr: `${pointerTo(attributes(one), one)} i:${attr.callFlags}`,
  }
  return `${number} i:${pid} ${args[call]}`
}

/** Whom a call can hit: the effect is how these are scheduled then. */
const CALLERS_TOO = ['root', 'root2', 'user', 'user2', 'child', 'nest', 'nest2']
const ALL = [...CALLERS_TOO, 'peer', 'peer2', 'peeru', 'peeru2', 'sub', 'far', 'far2', 'zomb']

/** One world, and the host's look at it. */
class SchedSide {
  readonly #world: World
  readonly #look: Look

  constructor(world: World, look: Look) {
    this.#world = world
    this.#look = look
  }

  async make(one: SchedCase): Promise<Outcome> {
    const { caller, target } = one
    for (const name of ALL) await this.#look.set(this.#world.tid(name), name === hitBy(one) ? one.before : USUAL)
    const pid = target === 'negative' ? -1 : this.#world.number(caller, target)
    const said = await this.#world.call(caller, lineOf(one, pid)).catch(() => ({ result: HUNG, bytes: '' }))
    const effect = [`memory ${said.bytes}`]
    for (const name of ALL) {
      const { policy, nice, priority, flags } = await this.#look.get(this.#world.tid(name))
      const io = one.call === 'ioprio_set' ? await this.#look.io(this.#world.tid(name)) : '-'
      effect.push(`${name} ${policy} ${nice} ${priority} ${flags} ${io}`)
    }
    return { result: said.result, effect }
  }

  async close(): Promise<void> {
    await this.#world.close()
    this.#look.close()
  }
}

const hitBy = ({ caller, target }: SchedCase): string => (target === 'self' ? caller : target)

/**
 * The native is a world of the host's root, with the very privilege that a container has not: CAP_SYS_NICE in the initial
 * user namespace. Its child user namespace has none there either.
 */
class SchedSides implements Sides<SchedCase> {
  readonly #served: Served
  readonly #ours: SchedSide
  readonly #host: SchedSide

  private constructor(served: Served, ours: SchedSide, host: SchedSide) {
    this.#served = served
    this.#ours = ours
    this.#host = host
  }

  static async start(): Promise<SchedSides> {
    const served = await Served.start({ schedSetscheduler: { maxPriority: MAX, minNice: MIN_NICE, ioprio: true } })
    const program = fixture('sched-world')
    const ours = await World.start(served.contained(program, true, ['--sched']))
    const host = await World.start([fixture('filtered'), '-', '--pidns', '--no-filter', '--', program])
    return new SchedSides(served, new SchedSide(ours, new Look()), new SchedSide(host, new Look()))
  }

  async run(one: SchedCase): Promise<Trial<SchedCase>> {
    const [ours, host] = await Promise.all([this.#ours.make(one), this.#host.make(one)])
    await this.#served.count()
    return { case: one, ours, natives: { host } }
  }

  record(): Promise<CallRecord | undefined> {
    return Promise.resolve(this.#served.record)
  }

  async close(): Promise<void> {
    await Promise.all([this.#ours.close(), this.#host.close()])
    this.#served.close()
  }
}

export const sched: Subject<SchedCase> = {
  name: 'the sched_setscheduler family',
  cases: schedCase,
  start: () => SchedSides.start(),
  counted: 'host',
  fields: ['task', 'policy', 'nice', 'priority', 'flags', 'I/O'],
  results: ['ok', 'EPERM', 'EACCES', 'EINVAL', 'ESRCH', 'EFAULT', 'E2BIG'],
  differences: schedDifferences,
  features: ({ call, caller, target, attr, i386 }) => [
    call === 'sched_setattr' ? `${call} of ${attr.length} bytes` : call,
    `by ${caller}`,
    `on ${target}`,
    ...(i386 ? ['i386'] : []),
  ],
  describe: (one) => [
    `${one.call} by ${one.caller} on ${one.target}, which has ${JSON.stringify(one.before)}`,
    lineOf(one, 0),
  ],
}
