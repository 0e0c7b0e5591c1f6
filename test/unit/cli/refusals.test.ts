import { expect, test } from 'vitest'
import type { Tid } from '../../../src/abi/brand.ts'
import type { CallRecord } from '../../../src/calls/record.ts'
import { Refusals } from '../../../src/cli/refusals.ts'

const record = (changes: Partial<CallRecord>): CallRecord => ({
  ...{ container: 1, serial: 1, nr: 133, arch: 0xc000003e, tid: 7 as Tid, verdict: 'continue', errno: 0 },
  ...{ reason: 'callUnknown', a: 0, b: 0, microseconds: 5, time: 0 },
  ...changes,
})

test('Refusals has a line for each kind, errors first, else in the order in which they came, with the number of calls, in words', () => {
  const refusals = new Refusals()
  const calls = [{ nr: 9999 }, {}, { verdict: 'act', errno: 17, reason: 'kernelAnswered' }, {}, { verdict: 'act' }]
  for (const changes of calls as Partial<CallRecord>[]) refusals.add(record(changes))
  expect(refusals.lines()).toEqual([
    'mknod EEXIST: done as the caller: the kernel itself answered with this errno',
    'system call 9999 left to the kernel: this kernel does not have the call',
    'mknod left to the kernel 2 times: this kernel does not have the call',
  ])
})

test('Refusals names ten of one call and reason, counts the others, and those beyond a hundred in each group, in words', () => {
  const refusals = new Refusals()
  for (let b = 0; b < 150; b++) refusals.add(record({ reason: 'deviceNotAllowed', a: 10, b }))
  for (let count = 0; count < 3; count++) refusals.add(record({}))
  const lines = refusals.lines()
  expect(lines).toHaveLength(13)
  expect(lines[0]).toMatch(/the device 10:50 /)
  expect(lines[9]).toMatch(/the device 10:59 /)
  expect(lines[10]).toBe('mknod left to the kernel [deviceNotAllowed]: 90 more, with other numbers')
  expect(lines.at(-2)).toMatch(/^mknod left to the kernel 3 times: /)
  expect(lines.at(-1)).toBe('50 more calls of other kinds')
})

test('Refusals shows the one refusal first, among 10,000 calls of all kinds that were left to the kernel, in words', () => {
  const refusals = new Refusals()
  for (let a = 0; a < 5000; a++) refusals.add(record({ reason: 'bpfCommand', a }))
  refusals.add(record({ reason: 'deviceNotAllowed', a: 1, b: 1 }))
  for (let a = 5000; a < 10_000; a++) refusals.add(record({ reason: 'bpfCommand', a }))
  const lines = refusals.lines()
  expect(lines[0]).toMatch(/^mknod left to the kernel: the device 1:1 is not allowed; no key allows it/)
  expect(lines).toHaveLength(13)
  expect(lines.at(-1)).toBe('9900 more calls of other kinds')
})

test.each(['attributeOfAll', 'kernelMakesWhiteouts', 'changesMounts'] as const)(
  'Refusals has no line for what the kernel does for any container: %s',
  (reason) => {
    const refusals = new Refusals(true)
    expect(refusals.add(record({ reason }))).toBeUndefined()
    expect(refusals.lines()).toEqual([])
  },
)

test('Refusals tells at once what is new, a hundred times, and at the end what came again or was not told, in words', () => {
  const refusals = new Refusals(true)
  expect(refusals.add(record({}))).toMatch(/^mknod left to the kernel: this kernel/)
  expect(refusals.add(record({ verdict: 'act' }))).toBeUndefined()
  expect(refusals.lines()).toEqual([])
  expect(refusals.add(record({}))).toBeUndefined()
  expect(refusals.lines()).toEqual([expect.stringMatching(/^mknod left to the kernel 2 times: /)])
  const told = Array.from({ length: 150 }, (_, b) => refusals.add(record({ reason: 'deviceNotAllowed', a: 10, b })))
  expect(told.filter(Boolean)).toHaveLength(99)
  expect(told.at(98)).toMatch(/; further reasons are told at the end$/)
  expect(refusals.lines()).toContain('mknod left to the kernel [deviceNotAllowed]: 41 more, with other numbers')
})
