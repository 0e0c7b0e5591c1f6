import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { childOf, decodeSchedAttr, encodeSchedAttr, SCHED } from '../../../src/abi/sched.ts'
import type { Caller, MemoryReader, Registers } from '../../../src/calls/caller.ts'
import { ContinueError } from '../../../src/calls/verdict.ts'
import { currentTid } from '../../../src/kernel/process.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'
import { sched } from '../../../src/syscalls/sched.ts'
import { handle, standIn, registers as wide } from '../../support/caller-stand-in.ts'

const policy = parsePolicy([['sched_setscheduler', 'true']])
const [setscheduler, setparam, setattr] = sched as unknown as [(typeof sched)[0], (typeof sched)[0], (typeof sched)[0]]

/** With garbage above what an int has; pointers are small here. */
const registers = (...values: readonly number[]): Registers => {
  const dirty = wide(...values.map((value) => (0xdead_beefn << 32n) | BigInt(value >>> 0)))
  return { ...dirty, pointer: (index) => BigInt(values[index]!) }
}

describe('screen() decides by the registers alone', () => {
  test.each([
    { what: 'a usual call', of: setscheduler, args: [0, SCHED.FIFO, 4096], reason: undefined },
    { what: 'reset on fork', of: setscheduler, args: [7, 0x4000_0002, 4096], reason: undefined },
    { what: 'SCHED_DEADLINE', of: setscheduler, args: [0, SCHED.DEADLINE, 4096], reason: 'schedulingNotServed' },
    { what: 'SCHED_EXT', of: setscheduler, args: [0, 7, 4096], reason: 'schedulingNotServed' },
    { what: 'a negative policy', of: setscheduler, args: [0, -1, 4096], reason: 'invalidArguments' },
    { what: 'no policy of Linux', of: setscheduler, args: [0, 4, 4096], reason: 'invalidArguments' },
    { what: 'no pointer', of: setscheduler, args: [0, SCHED.FIFO, 0], reason: 'invalidArguments' },
    { what: 'a negative number', of: setscheduler, args: [-1, SCHED.FIFO, 4096], reason: 'invalidArguments' },
    { what: 'usual parameters', of: setparam, args: [0, 4096], reason: undefined },
    { what: 'no parameters', of: setparam, args: [0, 0], reason: 'invalidArguments' },
    { what: 'usual attributes', of: setattr, args: [0, 4096, 0], reason: undefined },
    { what: 'flags of the call', of: setattr, args: [0, 4096, 1], reason: 'invalidArguments' },
  ])('$what: $reason', ({ of, args, reason }) => {
    expect(of.screen(registers(...args), policy)?.why.code).toBe(reason)
  })

  test('a policy without the key serves nothing', () => {
    for (const call of sched) expect(call.screen(registers(0, 4096, 4096), {})?.why.code).toBe('keyOff')
  })
})

/** The caller's memory from `AT` on; everything else is not mapped. */
const AT = 4096
function callerWith(memory: Uint8Array, changes: Partial<Caller> = {}): Caller & MemoryReader {
  return standIn({
    bytes(at, length) {
      const start = Number(at) - AT
      if (start < 0 || start + length > memory.length) throw new ContinueError('unreadable')
      return memory.slice(start, start + length)
    },
    task: () => ({ tid: currentTid(), pidfd: handle(7) }),
    ...changes,
  })
}

function verdict(memory: Uint8Array, changes: Partial<Caller> = {}) {
  const caller = callerWith(memory, changes)
  try {
    return setattr.decide(setattr.decode(registers(0, AT, 0), caller, policy), caller, policy)
  } catch (error) {
    if (error instanceof ContinueError) return { is: 'continue', why: error.why }
    throw error
  }
}

const attr = (policy: number, priority: number, flags = 0n): Uint8Array => encodeSchedAttr({ policy, priority, flags })

describe('sched_setattr.decide()', () => {
  test.each<{ what: string; memory?: Uint8Array; changes?: Partial<Caller>; expected: object }>([
    { what: 'an ordinary caller', expected: { is: 'act', act: { verb: 'schedule', to: { by: 'sched_setattr' } } } },
    {
      what: 'in a child user namespace',
      changes: { inInitialUserns: false },
      expected: { why: { code: 'childUserns' } },
    },
    {
      what: 'without CAP_SYS_NICE',
      changes: { holds: () => false },
      expected: { why: { code: 'lacksCapability', a: 23 } },
    },
    {
      what: 'a priority above the highest',
      memory: attr(SCHED.RR, 50),
      expected: { is: 'continue', why: { code: 'priorityTooHigh', a: 50, b: 49 } },
    },
    {
      what: 'a priority for a policy that has none',
      memory: attr(SCHED.OTHER, 50),
      expected: { is: 'continue', why: { code: 'invalidArguments' } },
    },
    {
      what: 'SCHED_DEADLINE',
      memory: attr(SCHED.DEADLINE, 0),
      expected: { is: 'continue', why: { code: 'schedulingNotServed', a: 6 } },
    },
    { what: 'an unknown flag', memory: attr(1, 1, 1n << 40n), expected: { why: { code: 'schedulingNotServed' } } },
    { what: 'the policy of the task', memory: attr(6, 1, 8n), expected: { is: 'act' } },
    {
      what: 'a kept policy that is negative',
      memory: attr(-1, 1, 8n),
      expected: { why: { code: 'invalidArguments' } },
    },
  ])('$what', ({ memory = attr(SCHED.FIFO, 49), changes, expected }) => {
    expect(verdict(memory, changes)).toMatchObject(expected)
  })

  test('nobody is looked for before all else is right', () => {
    const task = (): never => {
      throw new Error('looked for a task')
    }
    for (const changes of [{ inInitialUserns: false }, { holds: () => false }])
      expect(verdict(attr(1, 1), { task, ...changes }).is).toBe('continue')
    expect(verdict(attr(1, 60), { task }).is).toBe('continue')
  })
})

test('a deadline and a period are left out, and nothing else', () => {
  const bytes = new Uint8Array(56).fill(0xaa)
  bytes.set(attr(SCHED.FIFO, 7))
  bytes.fill(0xaa, 24)
  new DataView(bytes.buffer).setUint32(0, 56, true)
  const { attr: used } = (verdict(bytes) as { act: { to: { attr: Uint8Array } } }).act.to
  // The runtime, the utilization clamps, and between them deadline and period.
  expect([...used.subarray(24)]).toEqual([...Array(8).fill(0xaa), ...Array(16).fill(0), ...Array(8).fill(0xaa)])
})

/** What sched_copy_attr() of the kernel takes. */
test('attributes are taken in the sizes that the kernel takes, and what was checked is what is used', () => {
  const memory = fc.record({
    size: fc.oneof(fc.constantFrom(0, 47, 48, 52, 56, 64, 4096, 4097), fc.nat(5000)),
    last: fc.nat(1),
  })
  fc.assert(
    fc.property(memory, ({ size, last }) => {
      const bytes = new Uint8Array(Math.max(size, 48))
      bytes.set(attr(SCHED.FIFO, 7))
      bytes[bytes.length - 1] = last
      new DataView(bytes.buffer).setUint32(0, size, true)
      const said = verdict(bytes)
      const taken = (size === 0 || size >= 48) && size <= 4096 && (size <= 56 || last === 0)
      expect(said.is).toBe(taken ? 'act' : 'continue')
      if (!taken) return
      const used = (said as { act: { to: { attr: Uint8Array } } }).act.to.attr
      expect(used.length).toBe(size < 56 ? 48 : 56)
      expect(new DataView(used.buffer, used.byteOffset).getUint32(0, true)).toBe(used.length)
      expect(decodeSchedAttr(used)).toMatchObject({ policy: SCHED.FIFO, priority: 7 })
    }),
  )
})

test.each([
  { parent: { policy: SCHED.FIFO, priority: 9, flags: 0n }, nice: 0, child: [SCHED.FIFO, 9, 0] },
  { parent: { policy: SCHED.FIFO, priority: 9, flags: 1n }, nice: 0, child: [SCHED.OTHER, 0, 0] },
  { parent: { policy: SCHED.BATCH, priority: 0, flags: 1n }, nice: -5, child: [SCHED.BATCH, 0, 0] },
  { parent: { policy: SCHED.BATCH, priority: 0, flags: 1n }, nice: 5, child: [SCHED.BATCH, 0, 5] },
  { parent: { policy: SCHED.BATCH, priority: 0, flags: 0n }, nice: -5, child: [SCHED.BATCH, 0, -5] },
])('childOf() is what the kernel lets a child inherit: %o', ({ parent, nice, child }) => {
  const bytes = encodeSchedAttr(parent)
  new DataView(bytes.buffer).setInt32(16, nice, true)
  const inherited = childOf(bytes)
  const { policy, priority, flags } = decodeSchedAttr(inherited)
  expect([policy, priority, new DataView(inherited.buffer).getInt32(16, true)]).toEqual(child)
  expect(flags).toBe(0n)
})
