import { expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import type { CallRecord } from '../../../../src/calls/record.ts'
import { CallKinds } from '../../../../src/keeper/log/call-kinds.ts'

const record = (changes: Partial<CallRecord>): CallRecord => ({
  ...{ container: 1, serial: 1, nr: 133, arch: 0xc000003e, tid: 7 as Tid, verdict: 'continue', errno: 0 },
  ...{ reason: 'deviceNotAllowed', a: 1, b: 1, microseconds: 5, time: 0 },
  ...changes,
})

function kinds(limit: number) {
  const left: CallRecord[] = []
  return {
    left,
    kinds: new CallKinds<CallRecord>(
      limit,
      (made) => made,
      (of) => left.push(of),
    ),
  }
}

test('calls that differ in what is said of them are of different kinds, others of one', () => {
  const { kinds: all } = kinds(100)
  const first = all.kindOf(record({}))
  for (const same of [{ time: 9 }, { container: 2 }, { tid: 8 as Tid }, { microseconds: 1 }])
    expect(all.kindOf(record(same))).toBe(first)
  const others = [
    { arch: 0x40000003 },
    { nr: 1 },
    { verdict: 'errno' },
    { errno: 1 },
    { reason: 'done' },
    { a: 2 },
    { b: 2 },
  ]
  for (const other of others as Partial<CallRecord>[]) expect(all.kindOf(record(other))).not.toBe(first)
  expect(all.all).toHaveLength(1 + others.length)
})

test('the kind that was seen least recently makes room', () => {
  const { kinds: all, left } = kinds(3)
  for (const b of [1, 2, 3, 1, 4]) all.kindOf(record({ b }))
  expect(left.map(({ b }) => b)).toEqual([2])
  expect(all.all.map(({ b }) => b)).toEqual([1, 3, 4])
})

test('two kinds are never taken for one, whatever numbers a container chooses', () => {
  const { kinds: all, left } = kinds(100_000)
  let other = 0
  for (let a = 0; a < 100; a++)
    for (let b = 0; b < 100; b++) {
      const of = all.kindOf(record({ a, b: (b * 0x01000193) >>> 0 }))
      if (of.a !== a || of.b !== (b * 0x01000193) >>> 0) other++
    }
  expect(other).toBe(0)
  expect(all.all.length + left.length).toBe(100 * 100)
})
