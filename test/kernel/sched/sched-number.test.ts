import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterAll, beforeEach, expect, test } from 'vitest'
import type { Tid } from '../../../src/abi/brand.ts'
import { encodeSchedAttr, SCHED } from '../../../src/abi/sched.ts'
import type { Scheduling } from '../../../src/calls/act.ts'
import type { Caller } from '../../../src/calls/caller.ts'
import type { Handle } from '../../../src/kernel/fd.ts'
import { pidfdIsAlive, pidfdOpen } from '../../../src/kernel/pidfd.ts'
import { schedule, takeBack } from '../../../src/verbs/schedule.ts'
import { fixture } from '../../support/fixtures.ts'
import { Look } from '../../support/sched-world.ts'

/** The call takes a number. These tests give the number of a dead task to a new one, which must keep what it has. */
const FIFO: Scheduling = { by: 'sched_setscheduler', policy: SCHED.FIFO, priority: 10 }
const BATCH = { policy: SCHED.BATCH, nice: 3, priority: 0, flags: 0 }
const HIT = { policy: SCHED.FIFO, nice: 0, priority: 10, flags: 0 }

const look = new Look()
const children: ChildProcess[] = []
afterAll(() => {
  look.close()
  for (const child of children) child.kill('SIGKILL')
})

let dead: Handle
let number: Tid
let parent: number

/** A process whose number a dead one had, forked by one that has the policy BATCH. */
beforeEach(async () => {
  const first = spawn('sleep', ['100'], { stdio: 'ignore' })
  number = first.pid as Tid
  dead = pidfdOpen(number)
  expect(pidfdIsAlive(dead)).toBe(true)
  first.kill('SIGKILL')
  await once(first, 'exit')
  expect(pidfdIsAlive(dead)).toBe(false)
  const second = spawn('chrt', ['-b', '0', 'nice', '-n', '3', fixture('pid-at'), `${number}`, 'sleep', '100'])
  children.push(second)
  parent = second.pid!
  expect((await once(second.stdout, 'data')).toString()).toBe(`${number}\n`)
  expect(await look.get(number)).toEqual(BATCH)
})

/** As the thread that serves a call: with the right to do it, about a call that waits. */
const caller = { act: (_, action) => action() } as Pick<Caller, 'act'> as Caller

test('a task that was dead before is not acted on', async () => {
  expect(() => schedule.run({ task: { tid: number, pidfd: dead }, to: FIFO }, caller)).toThrow('ESRCH')
  expect(await look.get(number)).toEqual(BATCH)
})

test.each<Scheduling>([FIFO, { by: 'setpriority', nice: -10 }, { by: 'ioprio_set', ioprio: (1 << 13) | 3 }])(
  'a task that died between the last look and the act, $by: the task that has its number gets back what it had',
  async (to) => {
    using live = pidfdOpen(parent)
    let looks = 0
    const dying: Handle = {
      get raw() {
        return looks++ === 0 ? live.raw : dead.raw
      },
      [Symbol.dispose]() {},
    }
    const io = await look.io(parent)
    expect(() => schedule.run({ task: { tid: number, pidfd: dying }, to }, caller)).toThrow('ESRCH')
    expect(looks).toBe(2)
    expect(await look.get(number)).toEqual(BATCH)
    expect(await look.io(number)).toBe(io)
  },
)

test('a task inherits nothing of a parent whose children start anew', async () => {
  await look.set(parent, { policy: SCHED.RR, nice: 0, priority: 5, flags: 1 })
  await look.set(number, HIT)
  takeBack(number, FIFO)
  expect(await look.get(number)).toEqual({ policy: SCHED.OTHER, nice: 0, priority: 0, flags: 0 })
})

test.each<Scheduling>([
  { by: 'sched_setscheduler', policy: SCHED.FIFO, priority: 11 },
  { by: 'sched_setscheduler', policy: SCHED.RR, priority: 10 },
  { by: 'sched_setparam', priority: 11 },
  { by: 'setpriority', nice: -10 },
  { by: 'ioprio_set', ioprio: 1 << 13 },
])('a task that shows something else was not hit: %o', async (to) => {
  await look.set(number, HIT)
  takeBack(number, to)
  expect(await look.get(number)).toEqual(HIT)
})

test('KEEP_PARAMS changes no policy and no priority, but the rest of a task that was hit is undone', async () => {
  const KEEP_PARAMS_RESET = 0x10n | 0x01n
  const attr = encodeSchedAttr({ policy: SCHED.FIFO, flags: KEEP_PARAMS_RESET, priority: 10 })
  await look.set(number, { ...BATCH, flags: 1 })
  takeBack(number, { by: 'sched_setattr', attr })
  expect(await look.get(number)).toEqual(BATCH)
})

test('a number that no task has', () => {
  expect(() => takeBack(0x3fff_ffff as Tid, FIFO)).not.toThrow()
})
