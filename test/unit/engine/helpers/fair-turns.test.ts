import { expect, test } from 'vitest'
import { FairTurns } from '../../../../src/engine/helpers/fair-turns.ts'

const idle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20))

test('containers are worked for in turn, each in its own order, and messages are heard in between', async () => {
  const done: string[] = []
  const turns = new FairTurns(() => {})
  const take = (container: number, name: string): void => turns.take(container, () => done.push(name))
  for (const name of ['a1', 'a2', 'a3']) take(1, name)
  for (const name of ['b1', 'b2']) take(2, name)
  take(3, 'c1')
  setImmediate(() => done.push('heard'))
  expect(done).toEqual(['a1'])
  await idle()
  expect(done.filter((name) => name !== 'heard')).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2'])
  expect(done.indexOf('heard')).toBeLessThan(done.indexOf('c1'))
})

test('what nobody is before is done at once', async () => {
  const done: number[] = []
  const turns = new FairTurns(() => {})
  turns.take(1, () => done.push(1))
  await idle()
  turns.take(1, () => done.push(2))
  expect(done).toEqual([1, 2])
})

test('each piece is charged to its container, also if it fails', async () => {
  const charged = new Map<number, number>()
  const turns = new FairTurns((container, ms) => charged.set(container, ms))
  const work = (): string => {
    // Processor time is charged, so a busy machine changes nothing.
    const { user } = process.cpuUsage()
    while (process.cpuUsage().user - user < 30_000);
    return 'done'
  }
  expect(await turns.takeForResult(7, work)).toBe('done')
  await expect(
    turns.takeForResult(8, () => {
      work()
      throw new Error('no')
    }),
  ).rejects.toThrow('no')
  await idle()
  expect([...charged.keys()]).toEqual([7, 8])
  expect(charged.get(8)).toBeGreaterThan(1)
})
