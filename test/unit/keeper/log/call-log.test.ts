import { expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import type { CallRecord } from '../../../../src/calls/record.ts'
import { CallLog } from '../../../../src/keeper/log/call-log.ts'

const record = (changes: Partial<CallRecord>): CallRecord => ({
  container: 1,
  nr: 133,
  arch: 0xc000003e,
  tid: 7 as Tid,
  verdict: 'continue',
  errno: 0,
  reason: 'deviceNotAllowed',
  a: 1,
  b: 1,
  microseconds: 5,
  time: 0,
  ...changes,
})

function log() {
  const lines: [string, Readonly<Record<string, unknown>>][] = []
  return { lines, log: new CallLog((container, details) => lines.push([container, details])) }
}

test('says once a minute per container, call and reason, and then how many were not said', () => {
  const { lines, log: calls } = log()
  for (let time = 0; time < 60_000; time += 1000) calls.add(record({ time }), 'c')
  expect(lines).toEqual([
    [
      'c',
      {
        syscall: 'mknod',
        verdict: 'continue',
        reason: 'deviceNotAllowed',
        says: 'the device 1:1 is not allowed',
        remedy: expect.any(String),
      },
    ],
  ])
  calls.add(record({ time: 60_000 }), 'c')
  expect(lines[1]![1]).toMatchObject({ since: 59 })
})

test('another container, device or errno is said by itself', () => {
  const { lines, log: calls } = log()
  calls.add(record({}), 'c')
  calls.add(record({}), 'd')
  calls.add(record({ b: 2 }), 'c')
  calls.add(record({ verdict: 'errno', errno: 17, reason: 'kernelAnswered' }), 'c')
  expect(lines.map(([container]) => container)).toEqual(['c', 'd', 'c', 'c'])
  expect(lines[3]![1]).toMatchObject({ errno: 'EEXIST' })
})

test('a container cannot make it remember without bound', () => {
  const { lines, log: calls } = log()
  for (let b = 0; b < 1000; b++) calls.add(record({ b }), 'c')
  expect(lines).toHaveLength(256)
})
