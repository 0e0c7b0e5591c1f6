import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { Locks } from '../../../src/shared/lock.ts'

const LOCK = new URL('../../../out/shared/lock.js', import.meta.url).href
const ROUNDS = 200_000
const THREADS = 4

/** Adds to a word that is not atomic, under lock 0, while all others do too: the third word counts who has come. */
const counts = `
const { workerData: { words, rounds, threads, url } } = require('node:worker_threads')
import(url).then(({ Locks }) => {
  const locks = new Locks(words)
  Atomics.add(words, 2, 1)
  while (Atomics.load(words, 2) < threads) {}
  for (let round = 0; round < rounds; round++) locks.during(0, () => { words[1] = words[1] + 1 })
})`

test('Locks keeps threads apart, and wakes all that wait', async () => {
  const words = new Int32Array(new SharedArrayBuffer(12))
  const workerData = { words, rounds: ROUNDS, threads: THREADS, url: LOCK }
  const threads = Array.from({ length: THREADS }, () => new Worker(counts, { eval: true, workerData }))
  await Promise.all(threads.map((thread) => once(thread, 'exit')))
  expect([...words]).toEqual([0, THREADS * ROUNDS, THREADS])
})

/** Asks for lock 0 with the time that it is given, says what became of it, and lets go. */
const takes = `
const { parentPort, workerData: { words, ms, url } } = require('node:worker_threads')
import(url).then(({ Locks }) => {
  const locks = new Locks(words)
  parentPort.postMessage('asks')
  const isTaken = locks.take(0, ms)
  if (isTaken) locks.release(0)
  parentPort.postMessage(isTaken)
})`

test.each([
  { name: 'gets it from the thread that holds it', ms: 20_000, holds: 50, becomes: true },
  { name: 'gives up when its time is over', ms: 20, holds: 1000, becomes: false },
  { name: 'gives up in time, however often it is woken', ms: 100, holds: 2000, becomes: false },
])('a thread that waits for a lock $name', async ({ ms, holds, becomes }) => {
  const words = new Int32Array(new SharedArrayBuffer(4))
  const locks = new Locks(words)
  locks.take(0)
  const thread = new Worker(takes, { eval: true, workerData: { words, ms, url: LOCK } })
  const said: unknown[] = []
  const over = once(thread, 'exit')
  // Both messages may come at once, when the machine is busy.
  await new Promise((resolve) => thread.on('message', (message) => resolve(said.push(message))))
  setTimeout(() => locks.release(0), holds)
  // As holders do who wake it and take the lock again.
  const wakes = setInterval(() => Atomics.notify(words, 0), 10)
  await over
  clearInterval(wakes)
  expect(said).toEqual(['asks', becomes])
})
