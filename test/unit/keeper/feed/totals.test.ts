import { expect, test } from 'vitest'
import { Totals } from '../../../../src/keeper/feed/feed.ts'

test('the next keeper goes on with what this one has counted', () => {
  const first = new Totals()
  first.lostRecords(3)
  first.suppressedLines()
  first.reload('done')
  first.engineEnded('hung')
  first.registration('crun', 'served')
  const next = new Totals(JSON.parse(JSON.stringify(first.all)))
  next.lostRecords(1)
  next.reload('done')
  next.reload('done', -1)
  next.registration('crun', 'served')
  expect(next.all).toEqual({
    ...{ recordsLost: 4, linesSuppressed: 1, restarts: { hung: 1 }, reloads: { done: 1 } },
    registrations: { 'crun served': 2 },
  })
})

test('runtimes have few labels, whatever programs connect', () => {
  const totals = new Totals()
  for (let number = 0; number < 100; number++) totals.registration(`runtime-${number}`, 'served')
  totals.registration('a b"\n', 'served')
  totals.registration(undefined, 'refused')
  const labels = Object.keys(totals.all.registrations)
  expect(labels).toHaveLength(10)
  expect(totals.all.registrations).toMatchObject({ 'other served': 93, 'unknown refused': 1 })
})
