import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Tid } from '../../../src/abi/brand.ts'
import { decodeLimit, encodeLimit, RLIM_INFINITY, RLIMIT } from '../../../src/abi/rlimit.ts'
import type { Caller } from '../../../src/calls/caller.ts'
import { packLimit, unpackLimit } from '../../../src/calls/packed.ts'
import type { Verdict } from '../../../src/calls/verdict.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'
import { rlimits } from '../../../src/syscalls/rlimits.ts'
import { handle, registers, standIn } from '../../support/caller-stand-in.ts'

const policy = parsePolicy([
  ['rlimits', 'true'],
  ['rlimits.allowed', 'nofile=4096,core=unlimited'],
])
const [prlimit64, setrlimit] = rlimits as unknown as [(typeof rlimits)[0], (typeof rlimits)[0]]
const AT = 4096n
const GARBAGE = 0xdead_beefn << 32n

test.each([
  { what: 'reads', call: prlimit64, args: [0n, 7n, 0n, AT], code: 'limitNotRaised' },
  { what: 'sets', call: prlimit64, args: [GARBAGE, GARBAGE | 7n, AT, 0n], code: undefined },
  { what: 'a negative number', call: prlimit64, args: [0xffff_ffffn, 7n, AT, 0n], code: 'noSuchTask' },
  { what: 'no resource', call: prlimit64, args: [0n, 16n, AT, 0n], code: 'invalidArguments' },
  { what: 'sets', call: setrlimit, args: [7n, AT], code: undefined },
  { what: 'no pointer', call: setrlimit, args: [7n, 0n], code: 'limitNotRaised' },
  { what: 'no resource', call: setrlimit, args: [0xffff_ffffn, AT], code: 'invalidArguments' },
])('screen() of $call.name, $what: $code', ({ call, args, code }) => {
  expect(call.screen(registers(...args), policy)?.why.code).toBe(code)
  expect(call.screen(registers(...args), {})?.why.code).toBe('keyOff')
})

const task = { tid: 42 as Tid, pidfd: handle(7) }
function decided(asked: readonly [soft: bigint, hard: bigint], changes: Partial<Caller>, resource = 7): Verdict {
  const bytes = encodeLimit({ soft: asked[0], hard: asked[1] })
  const caller = standIn({ bytes: () => bytes, task: () => task, ...changes })
  const args = registers(0n, BigInt(resource), AT, 8192n)
  return prlimit64.decide(prlimit64.decode(args, caller, policy), caller, policy)
}

describe('decide()', () => {
  test('acts on the copy, for the task that was pinned', () => {
    expect(decided([5n, 4096n], {})).toEqual({
      is: 'act',
      act: { verb: 'limit', task, resource: 7, limit: { soft: 5n, hard: 4096n }, old: 8192n },
      why: { code: 'done', a: 7 },
    })
  })

  test('acts where the present limit is not told, as of a dead process', () => {
    expect(decided([1n, 1n], { hardLimit: () => undefined }).is).toBe('act')
  })

  const NONE = { holds: () => false, canRaiseLimits: false, inInitialUserns: false }
  test.each<{ what: string; asked: readonly [bigint, bigint]; changes?: Partial<Caller>; of?: number; code: string }>([
    { what: 'a soft limit above the hard one', asked: [2n, 1n], code: 'invalidArguments' },
    { what: 'as high as before', asked: [1n, 9n], changes: { ...NONE, hardLimit: () => 9n }, code: 'limitNotRaised' },
    { what: 'too high', asked: [1n, 4097n], code: 'limitTooHigh' },
    { what: 'not listed', asked: [1n, 1n], of: RLIMIT.STACK, code: 'limitTooHigh' },
    { what: 'never listed', asked: [1n, 1n], of: RLIMIT.NPROC, code: 'limitNeverServed' },
    { what: 'by a child', asked: [1n, 1n], changes: { inInitialUserns: false }, code: 'childUserns' },
    { what: 'by a user', asked: [1n, 1n], changes: { holds: () => false }, code: 'lacksCapability' },
    { what: 'for whom we cannot', asked: [1n, 1n], changes: { canRaiseLimits: false }, code: 'weLackCapability' },
  ])('leaves $what to the kernel: $code', ({ asked, changes = {}, of, code }) => {
    expect(decided(asked, changes, of)).toMatchObject({ is: 'continue', why: { code } })
  })

  test('asks the capability of raising limits, and no other', () => {
    const asked: string[] = []
    decided([1n, 1n], { holds: (cap) => asked.push(cap) > 0 })
    expect(asked).toEqual(['SYS_RESOURCE'])
  })
})

test('programs of 32 bits have words, whose highest is no limit', () => {
  const words = Buffer.from('01000000ffffffff', 'hex')
  expect(decodeLimit(words, 32)).toEqual({ soft: 1n, hard: RLIM_INFINITY })
  const read: number[] = []
  const bytes = (_: bigint, length: number): Uint8Array => (read.push(length) > 0 ? words : words)
  const caller = standIn({ bits: 32, bytes, task: () => task })
  const args = registers(BigInt(RLIMIT.CORE), AT)
  expect(setrlimit.decide(setrlimit.decode(args, caller, policy), caller, policy)).toMatchObject({
    act: { limit: { soft: 1n, hard: RLIM_INFINITY } },
  })
  expect(read).toEqual([8])
})

test('a limit in a record is never less than what was asked for, and exact up to 32 bits', () => {
  const limit = fc.oneof(fc.bigInt(0n, RLIM_INFINITY), fc.bigInt(0n, 1n << 33n), fc.constant(RLIM_INFINITY - 1n))
  fc.assert(
    fc.property(fc.nat(15), limit, (resource, value) => {
      const [a, b] = packLimit(resource, value)
      expect([a, b].every((each) => Number.isInteger(each) && each >= 0 && each < 2 ** 32)).toBe(true)
      const [name, shown = ''] = unpackLimit(a, b).split('=')
      expect(name).toBe(Object.keys(RLIMIT)[resource]!.toLowerCase())
      const unit = 1024n ** BigInt(Math.max(0, '_KMGTP'.indexOf(shown.at(-1)!)))
      const said = shown === 'unlimited' ? RLIM_INFINITY : BigInt(shown.replace(/\D/, '')) * unit
      expect(said >= value).toBe(true)
      if (value < 1n << 32n) expect(said).toBe(value)
    }),
  )
})
