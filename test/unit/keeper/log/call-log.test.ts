import { expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import type { CallRecord } from '../../../../src/calls/record.ts'
import { type CallLine, CallLog } from '../../../../src/keeper/log/call-log.ts'

const record = (changes: Partial<CallRecord>): CallRecord => ({
  container: 1,
  serial: 1,
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
  const lines: [string, Readonly<Record<string, unknown>>, CallLine][] = []
  return { lines, log: new CallLog((...line) => lines.push(line)) }
}

const COUNT = 'calls without a line of their own'
const counts = (lines: ReturnType<typeof log>['lines']): unknown[] =>
  lines.filter(([, , { message }]) => message === COUNT).map(([, { leftOut }]) => leftOut)

test('says once a minute per container, call and reason, and then how many were not said, in words', () => {
  const { lines, log: calls } = log()
  for (let time = 0; time < 60_000; time += 1000) calls.add(record({ time }), 'c')
  expect(lines).toEqual([
    [
      'c',
      {
        syscall: 'mknod',
        verdict: 'left',
        reason: 'deviceNotAllowed',
        says: 'the device 1:1 is not allowed',
        remedy: expect.any(String),
      },
      { level: 'notice', message: 'call' },
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

test('it never goes silent: after any number of kinds a new one has a line in the next minute, and the rest is counted', () => {
  const { lines, log: calls } = log()
  for (let b = 0; b < 1000; b++) calls.add(record({ b }), 'c')
  calls.look(59_999)
  expect(lines).toHaveLength(256)
  calls.look(60_000)
  expect(lines[256]).toEqual(['c', { leftOut: { mknod: 744 } }, { level: 'notice', message: COUNT }])
  calls.add(record({ time: 60_001, reason: 'lacksCapability' }), 'c')
  expect(lines[257]).toMatchObject(['c', { reason: 'lacksCapability' }, { message: 'call' }])
})

test('a container that floods its log hides nothing from the count, and takes no line from another container', () => {
  const { lines, log: calls } = log()
  for (let b = 0; b < 256; b++) calls.add(record({ b }), 'c')
  calls.add(record({ nr: 165, reason: 'lacksCapability', a: 21 }), 'c')
  calls.add(record({}), 'd')
  expect(lines.at(-1)).toMatchObject(['d', { syscall: 'mknod' }, {}])
  calls.add(record({ time: 60_000, b: 7 }), 'c')
  expect(counts(lines)).toEqual([{ mount: 1 }])
})

test('a flood of refused calls takes no line from a call that was done, and hides none in the count', () => {
  const { lines, log: calls } = log()
  const done = { verdict: 'act', reason: 'done', a: 0, b: 0 } as const
  for (let b = 0; b < 1000; b++) calls.add(record({ b }), 'c')
  calls.add(record(done), 'c')
  expect(lines.at(-1)).toMatchObject(['c', { syscall: 'mknod', verdict: 'done', reason: 'done' }, { level: 'info' }])
  calls.add(record(done), 'c')
  calls.forget('c')
  expect(lines.at(-1)).toMatchObject(['c', { leftOut: { mknod: 744 }, leftOutDone: { mknod: 1 } }, { message: COUNT }])
})

test('programs that fail all the time have sixteen lines a minute, and are counted', () => {
  const { lines, log: calls } = log()
  const takes = (time: number, count: number): number =>
    Array.from({ length: count }, () => calls.takesProgram('c', 'fuse2fs', time)).filter(Boolean).length
  expect([takes(0, 10), takes(59_000, 10), takes(60_000, 300)]).toEqual([10, 6, 16])
  calls.forget('c')
  expect(lines.map(([, details]) => details)).toEqual([
    { leftOutPrograms: { fuse2fs: 4 } },
    { leftOutPrograms: { fuse2fs: 284 } },
  ])
})

test('every call has a line, stands in the number of one, or is counted by the end of the container', () => {
  const { lines, log: calls } = log()
  let made = 0
  for (let time = 0; time < 400_000; time += 97) {
    made++
    calls.look(time)
    calls.add(record({ time, b: (time * 7919) % 1013, nr: time % 5 === 0 ? 165 : 133 }), 'c')
  }
  calls.forget('c')
  const said = lines.map(([, { since, leftOut }]) =>
    leftOut
      ? Object.values(leftOut as Record<string, number>).reduce((sum, each) => sum + each, 0)
      : 1 + Number(since ?? 0),
  )
  expect(said.reduce((sum, each) => sum + each, 0)).toBe(made)
})

test('repeated calls that have no line yet are said when the container ends', () => {
  const { lines, log: calls } = log()
  for (let time = 0; time < 5; time++) calls.add(record({ time }), 'c')
  calls.forget('c')
  expect(counts(lines)).toEqual([{ mknod: 4 }])
  calls.forget('c')
  calls.close()
  expect(lines).toHaveLength(2)
})

test('calls without a name are counted under a bounded number of numbers', () => {
  const { lines, log: calls } = log()
  for (let b = 0; b < 256; b++) calls.add(record({ b }), 'c')
  for (let nr = 10_000; nr < 11_000; nr++) calls.add(record({ nr }), 'c')
  calls.forget('c')
  const [leftOut] = counts(lines) as [Record<string, number>]
  expect(Object.keys(leftOut).length).toBeLessThanOrEqual(65)
  expect(leftOut.others).toBe(1000 - 64)
})

test('a clock that is set back silences nothing', () => {
  const { lines, log: calls } = log()
  calls.add(record({ time: 1e12 }), 'c')
  calls.add(record({ time: 1e11 }), 'c')
  expect(lines).toHaveLength(2)
})

test.each([
  { what: 'done', changes: { verdict: 'act', reason: 'done' }, level: 'info' },
  { what: 'left to the kernel by design', changes: { reason: 'kernelMountsIt' }, level: 'info' },
  { what: 'nobody waits for', changes: { verdict: 'gone', reason: 'gone' }, level: 'info' },
  { what: 'refused', changes: { verdict: 'errno', errno: 1, reason: 'lacksCapability' }, level: 'notice' },
  { what: 'left to the kernel', changes: {}, level: 'notice' },
] as const)('the level of a call that is $what is $level', ({ changes, level }) => {
  const { lines, log: calls } = log()
  calls.add(record(changes), 'c')
  expect(lines[0]![2].level).toBe(level)
})
