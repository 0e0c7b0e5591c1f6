import fc from 'fast-check'
import { encodeLimit, RLIM_INFINITY, RLIMIT } from '../../src/abi/rlimit.ts'
import type { CallRecord } from '../../src/calls/record.ts'
import { fixture } from '../support/fixtures.ts'
import { Look, World } from '../support/sched-world.ts'
import { HUNG } from './conversation.ts'
import { weighted, withAims } from './generate.ts'
import { rlimitsDifferences } from './rlimits-differences.ts'
import { Served } from './served.ts'
import type { Outcome, Sides, Subject, Trial } from './subject.ts'

export interface LimitCase {
  readonly call: 'prlimit64' | 'setrlimit'
  readonly caller: string
  readonly target: string
  readonly resource: number
  /** The limits that the target has before, and those that are asked for. */
  readonly before: Pair
  readonly asked: Pair
  readonly pointer: 'p' | 'edge' | 'cross' | 'null' | 'unmapped'
  readonly old: 'null' | 'p' | 'unmapped'
  readonly i386: boolean
}
type Pair = readonly [soft: bigint, hard: bigint]

/** What the policy of this test allows. */
const MOST: ReadonlyMap<number, bigint> = new Map<number, bigint>([
  [RLIMIT.NOFILE, RLIM_INFINITY],
  [RLIMIT.MEMLOCK, 1n << 31n],
  [RLIMIT.CORE, RLIM_INFINITY],
  [RLIMIT.RSS, 5_000n],
  [RLIMIT.LOCKS, 7n << 40n],
])
/** Lower limits of others would stop the world itself. */
const OTHERS = [RLIMIT.NPROC, RLIMIT.SIGPENDING, RLIMIT.MSGQUEUE, RLIMIT.NICE, RLIMIT.RTPRIO] as const
const CALLERS = weighted([10, 'root'], [4, 'root2'], [2, 'user'], [1, 'child'], [2, 'nest'], [2, 'nest2'])
const TARGETS = weighted(
  ...[[6, 'self'] as const, [3, 'peer'] as const, [3, 'peer2'] as const, [3, 'peeru'] as const, [1, 'peeru2'] as const],
  ...[[3, 'sub'] as const, [3, 'far'] as const, [2, 'far2'] as const, [2, 'zomb'] as const, [1, 'nobody'] as const],
  [1, 'negative'],
)

/** Enough files for a world to go on. */
const LEAST = 1024n
const limit = fc.oneof(
  { weight: 5, arbitrary: fc.bigInt(LEAST, 8_000n) },
  { weight: 2, arbitrary: fc.bigInt(LEAST, 1n << 32n) },
  { weight: 1, arbitrary: fc.bigInt(LEAST, RLIM_INFINITY) },
  { weight: 2, arbitrary: fc.constantFrom(RLIM_INFINITY, 1n << 31n, 0xffff_ffffn, 1_048_576n, 1_048_577n) },
)
const ordered = ([one, other]: Pair): Pair => (one <= other ? [one, other] : [other, one])
const pair: fc.Arbitrary<Pair> = fc.tuple(limit, limit)
/** What a process can have: no more files than fs.nr_open. */
const had = fc.tuple(fc.bigInt(LEAST, 6_000n), fc.bigInt(LEAST, 6_000n)).map(ordered)

const usual: fc.Arbitrary<LimitCase> = fc.record({
  call: weighted<LimitCase['call']>([3, 'prlimit64'], [1, 'setrlimit']),
  caller: CALLERS,
  target: TARGETS,
  resource: fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom(...MOST.keys()) },
    { weight: 2, arbitrary: fc.constantFrom(...OTHERS) },
    { weight: 1, arbitrary: fc.constantFrom(16, 17, 0x7fff_ffff) },
  ),
  before: had,
  asked: fc.oneof({ weight: 9, arbitrary: pair.map(ordered) }, { weight: 1, arbitrary: pair }),
  pointer: weighted<LimitCase['pointer']>([30, 'p'], [6, 'edge'], [1, 'cross'], [1, 'null'], [1, 'unmapped']),
  old: weighted<LimitCase['old']>([3, 'null'], [3, 'p'], [1, 'unmapped']),
  i386: weighted([4, false], [1, true]),
})

const limitCase = withAims(
  usual,
  // ESRCH
  (one): LimitCase => ({ ...one, call: 'prlimit64', target: 'nobody', pointer: 'p' }),
  (one): LimitCase => ({ ...one, call: 'prlimit64', caller: 'nest', target: 'peer', pointer: 'p' }),
  // EFAULT
  (one): LimitCase => ({ ...one, pointer: 'cross' }),
)

/** Numbers for x86_64 and for i386. */
const NUMBERS = { prlimit64: [302, 340], setrlimit: [160, 75] } as const

function bytesOf({ call, asked: [soft, hard], i386 }: LimitCase): Buffer {
  if (call === 'prlimit64' || !i386) return Buffer.from(encodeLimit({ soft, hard }))
  const bytes = Buffer.alloc(8)
  bytes.writeUInt32LE(Number(BigInt.asUintN(32, soft)), 0)
  bytes.writeUInt32LE(Number(BigInt.asUintN(32, hard)), 4)
  return bytes
}

/** A line for the fixture; `pid` is the number by which the caller knows the target. */
function lineOf(one: LimitCase, pid: number): string {
  const { call, resource, pointer, old, i386 } = one
  const number = `${i386 ? 'i386 ' : ''}${NUMBERS[call][i386 ? 1 : 0]}`
  const hex = bytesOf(one).toString('hex')
  const limits = pointer === 'null' || pointer === 'unmapped' ? `${pointer}:` : `${pointer}:${hex}`
  if (call === 'setrlimit') return `${number} i:${resource} ${limits}`
  // With "p" the old limits go where the new ones were, which are read first.
  return `${number} i:${pid} i:${resource} ${limits} ${old === 'p' ? `p:${hex}` : `${old}:`}`
}

const ALL = ['root', 'user', 'child', 'nest', 'peer', 'peeru', 'sub', 'far', 'zomb']
const RESOURCES: readonly number[] = [...MOST.keys(), ...OTHERS]

/** One world, and the host's look at it. */
class LimitSide {
  readonly #world: World
  readonly #look: Look

  constructor(world: World, look: Look) {
    this.#world = world
    this.#look = look
  }

  async make(one: LimitCase): Promise<Outcome> {
    const { caller, target, resource, before } = one
    const seen = RESOURCES.includes(resource) ? [resource] : RESOURCES
    for (const name of ALL) for (const each of seen) await this.#look.setLimit(this.#world.tid(name), each, ...before)
    const pid = target === 'negative' ? -1 : this.#world.number(caller, target)
    const said = await this.#world.call(caller, lineOf(one, pid)).catch(() => ({ result: HUNG, bytes: '' }))
    const effect = [`memory ${said.bytes}`]
    for (const name of ALL)
      for (const each of seen) effect.push(`${name} ${each} ${await this.#look.limit(this.#world.tid(name), each)}`)
    return { result: said.result, effect }
  }

  async close(): Promise<void> {
    await this.#world.close()
    this.#look.close()
  }
}

/**
 * The native is a world of the host's root, with the very privilege that a container has not: CAP_SYS_RESOURCE in the
 * initial user namespace. Its child user namespace has none there either.
 */
class LimitSides implements Sides<LimitCase> {
  readonly #served: Served
  readonly #ours: LimitSide
  readonly #host: LimitSide

  private constructor(served: Served, ours: LimitSide, host: LimitSide) {
    this.#served = served
    this.#ours = ours
    this.#host = host
  }

  static async start(): Promise<LimitSides> {
    const served = await Served.start({ rlimits: { allowed: MOST } })
    const program = fixture('sched-world')
    const ours = await World.start(served.contained(program, true, ['--rlimits']))
    const host = await World.start([fixture('filtered'), '-', '--pidns', '--no-filter', '--', program])
    return new LimitSides(served, new LimitSide(ours, new Look()), new LimitSide(host, new Look()))
  }

  async run(one: LimitCase): Promise<Trial<LimitCase>> {
    const [ours, host] = await Promise.all([this.#ours.make(one), this.#host.make(one)])
    await this.#served.count(one.call === 'prlimit64' && one.pointer === 'null' ? 0 : 1)
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

export const rlimits: Subject<LimitCase> = {
  name: 'prlimit64 and setrlimit',
  cases: limitCase,
  start: () => LimitSides.start(),
  counted: 'host',
  fields: ['task', 'resource', 'soft', 'hard'],
  results: ['ok', 'EPERM', 'EINVAL', 'ESRCH', 'EFAULT'],
  differences: rlimitsDifferences,
  features: ({ call, caller, target, i386 }) => [
    call,
    `by ${caller}`,
    ...(call === 'prlimit64' ? [`on ${target}`] : []),
    ...(i386 ? ['i386'] : []),
  ],
  describe: (one) => [
    `${one.call} by ${one.caller} on ${one.target}, which has ${one.before.join(' and ')}`,
    lineOf(one, 0),
  ],
}
