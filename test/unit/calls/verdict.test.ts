import { expect, test } from 'vitest'
import { errno } from '../../../src/abi/errno.ts'
import { makedev } from '../../../src/abi/stat.ts'
import type { Act } from '../../../src/calls/act.ts'
import { unpackName } from '../../../src/calls/packed.ts'
import { explain } from '../../../src/calls/reasons.ts'
import { act, continueWith, judgedBy, refuse, refuseKept } from '../../../src/calls/verdict.ts'
import { verbs } from '../../../src/verbs/index.ts'

const OBSERVE = { mode: 'observe' } as const

test.each(Object.keys(verbs) as Act['verb'][])('observe mode leaves %s to the kernel, and enforce does it', (verb) => {
  const verdict = act({ verb, dev: makedev(10, 200), type: 'ext4', call: { type: 'ext4' } } as unknown as Act)
  expect(judgedBy({}, verdict)).toBe(verdict)
  expect(judgedBy(OBSERVE, verdict)).toMatchObject({ is: 'continue', why: { code: 'observedAct' } })
})

test('what observe mode would have done is told apart by device and file system', () => {
  const nodes = [3, 5].map((minor) =>
    judgedBy(OBSERVE, act({ verb: 'mknod', dev: makedev(1, minor) } as unknown as Act)),
  )
  expect(nodes.map(({ why }) => why)).toEqual([3, 5].map((b) => ({ code: 'observedAct', a: 1, b })))
  const mounted = judgedBy(OBSERVE, act({ verb: 'mount', call: { type: 'xfs' } } as unknown as Act))
  expect(unpackName(mounted.why.a!, mounted.why.b!)).toBe('"xfs"')
})

test('of fsopen that makes mount(8) go on to mount(2) the latter counts', () => {
  expect(judgedBy(OBSERVE, refuse('fuseByMount', errno('ENOSYS')))).toEqual(continueWith('observedAct'))
})

test('observe mode leaves a refusal to the kernel and names it, in words', () => {
  const { is, why } = judgedBy(OBSERVE, refuse('contextFull', errno('E2BIG')))
  expect(is).toBe('continue')
  expect(explain(why).says).toContain('would answer E2BIG because of contextFull')
  expect(explain(why).remedy).toContain('intercede explain contextFull')
})

test('observe mode changes nothing about a call that is continued, or that uses what the caller once got', () => {
  for (const verdict of [continueWith('keyOff', 1), refuseKept('madeBefore', errno('EPERM'))])
    expect(judgedBy(OBSERVE, verdict)).toBe(verdict)
})
