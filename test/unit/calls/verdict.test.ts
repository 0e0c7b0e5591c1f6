import { expect, test } from 'vitest'
import { errno } from '../../../src/abi/errno.ts'
import type { Act } from '../../../src/calls/act.ts'
import { explain } from '../../../src/calls/reasons.ts'
import { act, continueWith, judgedBy, refuse, refuseKept } from '../../../src/calls/verdict.ts'
import { verbs } from '../../../src/verbs/index.ts'

const OBSERVE = { mode: 'observe' } as const

test.each(Object.keys(verbs) as Act['verb'][])('observe mode leaves %s to the kernel, and enforce does it', (verb) => {
  const verdict = act({ verb } as Act)
  expect(judgedBy({}, verdict)).toBe(verdict)
  expect(judgedBy(OBSERVE, verdict)).toEqual(continueWith('observedAct'))
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
