import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { encodeLimit, RLIM_INFINITY, RLIMIT } from '../../../src/abi/rlimit.ts'
import type { ReasonCode } from '../../../src/calls/reasons.ts'
import { fixture, missing, noI386 } from '../../support/fixtures.ts'
import { Host, USERNS } from '../../support/host.ts'
import { Look, World } from '../../support/sched-world.ts'
import { cannotRaiseLimits, lacks, withReason } from '../../support/skipped.ts'

const MOST = 1_000_000n
const FILES = { soft: 100n, hard: 1000n }
const LOCKED = 2n ** 31n

let host: Host
let look: Look
let world: World

beforeAll(async () => {
  const allowed = new Map<number, bigint>([
    [RLIMIT.NOFILE, MOST],
    [RLIMIT.MEMLOCK, LOCKED],
    [RLIMIT.CORE, RLIM_INFINITY],
  ])
  host = await Host.start({ rlimits: { allowed } })
  look = new Look()
  const container = [
    fixture('filtered'),
    host.socket,
    '--userns',
    USERNS,
    '--pidns',
    '--rlimits',
    '--await-agent',
    '--',
  ]
  world = await World.start([...container, fixture('sched-world')])
})
afterAll(async () => {
  await world?.close()
  look?.close()
  host?.close()
})

const bytes = (soft: bigint, hard: bigint): string => Buffer.from(encodeLimit({ soft, hard })).toString('hex')
function words(soft: bigint, hard: bigint): string {
  const two = Buffer.alloc(8)
  for (const [index, value] of [soft, hard].entries()) two.writeUInt32LE(Number(BigInt.asUintN(32, value)), 4 * index)
  return two.toString('hex')
}

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
  readonly resource?: number
  readonly soft?: bigint
  readonly hard?: bigint
  readonly result: string
  readonly reason: ReasonCode
}

const untranslated = lacks('pidTranslation')

/** By both architectures' numbers. */
describe.each(['302', 'i386 340'])('prlimit64 by %s', (number) => {
  const cannot = ({ caller = 'root', target = caller }: Partial<Row>): string | undefined =>
    cannotRaiseLimits ??
    (number.includes('i386') ? noI386 : undefined) ??
    (target === caller ? undefined : untranslated)

  test.for<Row>([
    { what: 'the caller itself', result: 'ok', reason: 'done' },
    { what: 'the caller itself, by a thread', caller: 'root2', result: 'ok', reason: 'done' },
    { what: 'another process', target: 'peer', result: 'ok', reason: 'done' },
    { what: 'another process by one of its threads', target: 'peer2', result: 'ok', reason: 'done' },
    { what: 'a process of another user', target: 'peeru', result: 'ok', reason: 'done' },
    { what: 'a process in a child user namespace', target: 'sub', result: 'ok', reason: 'done' },
    { what: 'a process in a nested pid namespace', target: 'far', result: 'ok', reason: 'done' },
    { what: 'a thread by its nested number', caller: 'nest2', target: 'far2', result: 'ok', reason: 'done' },
    { what: 'a dead process', target: 'zomb', result: 'ok', reason: 'done' },
    { what: 'up to the highest', hard: MOST, result: 'ok', reason: 'done' },
    { what: 'above the highest', hard: MOST + 1n, result: 'EPERM', reason: 'limitTooHigh' },
    { what: 'without a limit', hard: RLIM_INFINITY, result: 'EPERM', reason: 'limitTooHigh' },
    { what: 'the same limits', soft: 100n, hard: 1000n, result: 'ok', reason: 'limitNotRaised' },
    { what: 'lower limits', soft: 90n, hard: 900n, result: 'ok', reason: 'limitNotRaised' },
    { what: 'a soft limit above the hard one', soft: 3000n, result: 'EINVAL', reason: 'invalidArguments' },
    { what: 'one of the other namespace', caller: 'nest', target: 'peer', result: 'ESRCH', reason: 'noSuchTask' },
    { what: 'nobody', target: 'nobody', result: 'ESRCH', reason: 'noSuchTask' },
    { what: 'by a user', caller: 'user', result: 'EPERM', reason: 'lacksCapability' },
    { what: 'by a thread of a user', caller: 'user2', result: 'EPERM', reason: 'lacksCapability' },
    { what: 'by root of a child user namespace', caller: 'child', result: 'EPERM', reason: 'childUserns' },
    { what: 'to lock memory', resource: RLIMIT.MEMLOCK, hard: LOCKED, result: 'ok', reason: 'done' },
    { what: 'no limit on core files', resource: RLIMIT.CORE, hard: RLIM_INFINITY, result: 'ok', reason: 'done' },
    { what: 'stacks, which the list lacks', resource: RLIMIT.STACK, result: 'EPERM', reason: 'limitTooHigh' },
    { what: 'processes', resource: RLIMIT.NPROC, result: 'EPERM', reason: 'limitNeverServed' },
    { what: 'real-time priorities', resource: RLIMIT.RTPRIO, result: 'EPERM', reason: 'limitNeverServed' },
    { what: 'what there is not', resource: 16, result: 'EINVAL', reason: 'invalidArguments' },
  ])('$what: $result', async (row, { skip }) => {
    const why = cannot(row)
    if (why) skip(why)
    const {
      caller = 'root',
      target = 'self',
      resource = RLIMIT.NOFILE,
      soft = 200n,
      hard = 2000n,
      result,
      reason,
    } = row
    const hit = target === 'self' ? caller : target
    const tid = hit === 'nobody' || resource === 16 ? undefined : world.tid(hit)
    if (tid !== undefined) await look.setLimit(tid, resource, FILES.soft, FILES.hard)
    const line = `${number} i:${world.number(caller, target)} i:${resource} p:${bytes(soft, hard)} null:`
    expect(await call(caller, line)).toMatchObject({ result, records: [{ reason }] })
    const is = result === 'ok' ? `${soft} ${hard}` : `${FILES.soft} ${FILES.hard}`
    if (tid !== undefined) expect(await look.limit(tid, resource)).toBe(is)
  })

  test('the old limits are told', async ({ skip }) => {
    if (cannot({})) skip(cannot({}))
    await look.setLimit(world.tid('root'), RLIMIT.NOFILE, FILES.soft, FILES.hard)
    // Both pointers lead to the same room, where the new limits were: those are read once.
    const line = `${number} i:0 i:${RLIMIT.NOFILE} p:${bytes(200n, 2000n)} p:${bytes(200n, 2000n)}`
    const { result, bytes: said, records } = await call('root', line)
    expect({ result, said, records }).toMatchObject({
      result: 'ok',
      said: bytes(100n, 1000n),
      records: [{ reason: 'done' }],
    })
  })

  test('limits are set even if the old ones cannot be told', async ({ skip }) => {
    if (cannot({})) skip(cannot({}))
    await look.setLimit(world.tid('root'), RLIMIT.NOFILE, FILES.soft, FILES.hard)
    const line = `${number} i:0 i:${RLIMIT.NOFILE} p:${bytes(200n, 2000n)} unmapped:`
    expect(await call('root', line)).toMatchObject({ result: 'EFAULT' })
    expect(await look.limit(world.tid('root'), RLIMIT.NOFILE)).toBe('200 2000')
  })

  test('more files than fs.nr_open: the kernel refuses', async ({ skip }) => {
    if (cannot({})) skip(cannot({}))
    const own = await Host.start({ rlimits: { allowed: new Map([[RLIMIT.NOFILE, RLIM_INFINITY]]) } })
    try {
      const { stderr } = await own.run(['--rlimits'], ['prlimit', '--nofile=unlimited:unlimited', 'true'])
      expect(stderr).toContain('Operation not permitted')
      await own.settle(0)
      expect(own.records).toMatchObject([{ reason: 'kernelAnswered' }])
    } finally {
      own.close()
    }
  })
})

describe.each([
  { number: '160', of: bytes },
  { number: 'i386 75', of: words },
])('setrlimit by $number', ({ number, of }) => {
  const cannot = cannotRaiseLimits ?? (number.includes('i386') ? noI386 : undefined)

  test.for<{ what: string; resource: number; hard: bigint; result: string; reason: ReasonCode }>([
    { what: 'files', resource: RLIMIT.NOFILE, hard: 2000n, result: 'ok', reason: 'done' },
    { what: 'too many files', resource: RLIMIT.NOFILE, hard: MOST + 1n, result: 'EPERM', reason: 'limitTooHigh' },
    { what: 'no limit', resource: RLIMIT.CORE, hard: RLIM_INFINITY, result: 'ok', reason: 'done' },
    { what: 'fewer files', resource: RLIMIT.NOFILE, hard: 900n, result: 'ok', reason: 'limitNotRaised' },
  ])('$what: $result', async ({ resource, hard, result, reason }, { skip }) => {
    if (cannot) skip(cannot)
    const tid = world.tid('root')
    await look.setLimit(tid, resource, FILES.soft, FILES.hard)
    expect(await call('root', `${number} i:${resource} p:${of(50n, hard)}`)).toMatchObject({
      result,
      records: [{ reason }],
    })
    expect(await look.limit(tid, resource)).toBe(result === 'ok' ? `50 ${hard}` : `${FILES.soft} ${FILES.hard}`)
  })
})

/**
 * Threads change the limits in memory, byte by byte, while calls set them; the kernel, which answers some calls, reads them
 * again.
 */
const RACES = `
import ctypes, os, threading
libc = ctypes.CDLL(None, use_errno=True)
limits, old = (ctypes.c_uint64 * 2)(10, 2000), (ctypes.c_uint64 * 2)()
over, done, highest = False, 0, 0
def change():
    while not over:
        limits[1] = ${MOST + 1n}
        limits[1] = 2000
        limits[1] = 1000
threads = [threading.Thread(target=change) for _ in range(2)]
for thread in threads: thread.start()
for turn in range(500):
    done += libc.prlimit(0, ${RLIMIT.NOFILE}, limits, None) == 0
    libc.prlimit(0, ${RLIMIT.NOFILE}, None, old)
    highest = max(highest, old[1])
over = True
print('some' if done else 'none', highest <= ${MOST} and highest >= 2000)
`
const noRace = missing('python3') ?? cannotRaiseLimits
test.skipIf(noRace)(withReason('limits that change in memory meanwhile: none is above the list', noRace), async () => {
  const { stdout, stderr } = await host.run(['--rlimits'], ['sh', '-c', 'ulimit -n 1000; exec python3 -c "$0"', RACES])
  expect([stdout, stderr]).toEqual(['some True\n', ''])
})

test('tasks of the host and of other containers keep theirs, whoever sees their numbers', async () => {
  const others = [process.pid, world.tid('peer')] as const
  const limits = async () => [await look.limit(others[0], RLIMIT.NOFILE), await look.limit(others[1], RLIMIT.NOFILE)]
  const before = await limits()
  const script = others.map((tid) => `prlimit --pid ${tid} --nofile=10:900000`).join('; ')
  const seen = host.records.length
  await host.run(['--rlimits'], ['sh', '-c', script])
  await host.settle(seen)
  expect(await limits()).toEqual(before)
  const reasons = new Set(host.records.slice(seen).map(({ reason }) => reason))
  expect(reasons).toEqual(new Set([untranslated ? 'pidNotTranslated' : 'outsideContainer']))
})

test('calls that only read are not trapped', async () => {
  const { result, records } = await call('root', `302 i:0 i:${RLIMIT.NOFILE} null: p:${bytes(0n, 0n)}`)
  expect({ result, records }).toEqual({ result: 'ok', records: [] })
})

test('no pointer to limits, and one that is bad', async () => {
  expect(await call('root', `160 i:${RLIMIT.NOFILE} null:`)).toMatchObject({ result: 'EFAULT' })
  const { result, records } = await call('root', `302 i:0 i:${RLIMIT.NOFILE} unmapped: null:`)
  expect({ result, records }).toMatchObject({ result: 'EFAULT', records: [{ reason: 'unreadable' }] })
})

describe.skipIf(!cannotRaiseLimits)(
  withReason('a machine whose root cannot raise limits', cannotRaiseLimits ? undefined : 'this one can'),
  () => {
    test('leaves the call to the kernel, and says why', async () => {
      const [, hard = ''] = (await look.limit(world.tid('peer'), RLIMIT.NOFILE)).split(' ')
      const line = (limit: bigint): string => `160 i:${RLIMIT.NOFILE} p:${bytes(100n, limit)}`
      expect(await call('root', line(BigInt(hard) + 1n))).toMatchObject({
        result: 'EPERM',
        records: [{ reason: 'weLackCapability' }],
      })
      // What needs no privilege goes on as natively.
      expect(await call('root', line(BigInt(hard)))).toMatchObject({
        result: 'ok',
        records: [{ reason: 'limitNotRaised' }],
      })
    })
  },
)
