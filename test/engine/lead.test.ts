import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Tid } from '../../src/abi/brand.ts'
import { LEAD_WORDS, Lead } from '../../src/engine/lead.ts'
import type { Alarm } from '../../src/kernel/timer.ts'

/** An alarm that goes off at once for whoever waits. */
const alarm = { set: () => {}, ring: () => {}, wait: () => {} } as unknown as Alarm

/** Whether the leader has work, or waits. */
let running = false

const memory = (): Int32Array => new Int32Array(new SharedArrayBuffer(4 * LEAD_WORDS))
const lead = (words = memory()): Lead => new Lead(words, 2, alarm, { self: 1 as Tid, isRunning: () => running })

/** Posts so often that parked threads are woken for it, the deputy among them. */
function ring(it: Lead): void {
  for (let posts = 0; posts < 64; posts++) it.announce()
}

test('one thread leads, and serves, and leads again', () => {
  const it = lead()
  const term = it.take()!
  expect(it.take()).toBeUndefined()
  it.serve(term, 7, 0)
  expect(it.resume(term)).toBe(true)
  expect(it.pass(term)).toBe(true)
  expect(it.take()).not.toBe(term)
})

test('the deputy leads when the leader is late, and says for whom it was', () => {
  const it = lead()
  const late = it.take()!
  ring(it)
  expect(it.park()).toBeUndefined()
  it.serve(late, 7, 0)
  const deputy = it.park()!
  expect(deputy.slow).toBe(7)
  expect(it.resume(late)).toBe(false)
  expect(it.pass(late)).toBe(false)
  expect(it.take()).toBeUndefined()
  it.serve(deputy.term, 8, 0)
  expect(it.resume(late)).toBe(false)
  expect(it.resume(deputy.term)).toBe(true)
})

test("calls that are begun keep the deputy away, and a shared lead is nobody's", () => {
  const it = lead()
  let waits = 0
  const original = alarm.wait
  let term = it.take()!
  alarm.wait = () => {
    if (++waits > 3) return
    it.receive(term)
    it.share(term, 0)
    term = it.take()!
    it.serve(term, 7, 0)
  }
  expect(it.park()).toMatchObject({ slow: 7 })
  expect(waits).toBe(4)
  alarm.wait = original
})

test('a leader learns that there is no deputy, and nobody who could be one', () => {
  const it = lead()
  const term = it.take()!
  expect(it.callDeputy()).toBe(false)
  it.serve(term, 7, 0)
  const original = alarm.wait
  alarm.wait = () => expect(it.callDeputy()).toBe(true)
  expect(it.park()).toBeDefined()
  alarm.wait = original
  expect(it.callDeputy()).toBe(false)
})

test('a shared lead goes to whoever asks first', () => {
  const it = lead()
  const term = it.take()!
  it.receive(term)
  it.share(term, 0)
  expect(it.resume(term)).toBe(false)
  expect(it.pass(term)).toBe(false)
  const next = it.await()!
  expect(next).not.toBe(term)
  expect(it.await()).toBeUndefined()
  it.share(term, 0)
  expect(it.take()).toBeUndefined()
})

test('a leader that has work to do is waited for', () => {
  const it = lead()
  const term = it.take()!
  it.serve(term, 7, 0)
  let waits = 0
  running = true
  const original = alarm.wait
  alarm.wait = () => {
    if (++waits === 3) running = false
  }
  expect(it.park()!.slow).toBe(7)
  expect(waits).toBe(3)
  alarm.wait = original
})

/** Whatever late threads do, there is never a second leader: at most one term can resume or pass. */
test('a late thread never takes or frees the lead of another', () => {
  const steps = fc.array(fc.constantFrom('take', 'receive', 'wait', 'serve', 'share', 'park', 'resume', 'pass'), {
    maxLength: 60,
  })
  fc.assert(
    fc.property(steps, fc.array(fc.nat(7), { minLength: 60, maxLength: 60 }), (words, picks) => {
      const it = lead()
      const terms: number[] = []
      let current: { term: number; serving: boolean; receiving?: boolean } | undefined
      for (const [index, step] of words.entries()) {
        const term = terms[picks[index]! % Math.max(1, terms.length)] ?? 0
        const isCurrent = current?.term === term
        if (step === 'take') {
          const taken = it.take()
          expect(taken === undefined).toBe(current !== undefined)
          if (taken !== undefined) current = { term: taken, serving: false }
        } else if (step === 'serve' && isCurrent) {
          it.serve(term, 1, 0)
          current = { term, serving: true }
        } else if ((step === 'receive' || step === 'wait') && isCurrent && !current!.serving) {
          it[step](term)
          current = { term, serving: false, receiving: step === 'receive' }
        } else if (step === 'share') {
          it.share(term, 0)
          if (isCurrent && current!.receiving) current = undefined
        } else if (step === 'park') {
          // Nobody rings: a deputy would wait for ever where the leader waits for calls.
          if (current && !current.serving) ring(it)
          const late = it.park()
          expect(late !== undefined).toBe(current?.serving === true)
          if (late) current = { term: late.term, serving: false }
        } else if (step === 'resume') {
          expect(it.resume(term)).toBe(isCurrent && current!.serving)
          if (isCurrent) current = { term, serving: false }
        } else if (step === 'pass') {
          expect(it.pass(term)).toBe(isCurrent)
          if (isCurrent) current = undefined
        }
        if (current && !terms.includes(current.term)) terms.push(current.term)
      }
    }),
  )
})
