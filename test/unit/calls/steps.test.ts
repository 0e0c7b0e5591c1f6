import { describe, expect, test } from 'vitest'
import { capMask } from '../../../src/abi/credentials.ts'
import { capsOf, OWN, Phase, permitted, phases, type Step, steps } from '../../../src/calls/steps.ts'
import { verbs } from '../../../src/verbs/index.ts'

const all = Object.entries(steps) as readonly (readonly [string, Step])[]

describe('steps', () => {
  test('are as many as a phase has bits for, each with one of its own', () => {
    expect(new Set(all.map(([, { index }]) => index))).toEqual(new Set(all.keys()))
    expect(all.length).toBeLessThanOrEqual(32)
  })

  test.each(all.filter(([name]) => name !== 'rest' && name !== 'asCaller'))('%s is declared by somebody', (_, step) => {
    const declared = [...Object.values(phases), ...Object.values(verbs)].flatMap(
      (each) => each.steps as readonly Step[],
    )
    expect(declared).toContain(step)
  })

  test.each(all)('%s: nothing is in effect that is not permitted', (_, step) => {
    expect(capMask(...capsOf(step, step.own)) & ~capMask(...permitted)).toBe(0n)
  })

  test('what is permitted is needed by one of them', () => {
    const needed = new Set(all.flatMap(([, step]) => capsOf(step, step.own)))
    expect(new Set(permitted)).toEqual(needed)
  })

  test("add of the caller's own what is asked for", () => {
    expect(capsOf(steps.makeNode, 0)).toEqual(['MKNOD'])
    expect(capsOf(steps.makeNode, OWN.FSETID | OWN.DAC_READ_SEARCH)).toEqual(['MKNOD', 'FSETID', 'DAC_READ_SEARCH'])
  })
})

test('a phase allows what it declares and to be the caller, and nothing else', () => {
  const phase = new Phase('of a test', [steps.schedule, steps.countApart])
  const allowed = all.filter(([, step]) => phase.allows(step)).map(([name]) => name)
  expect(allowed).toEqual(['asCaller', 'schedule', 'countApart'])
})
