import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterAll, beforeEach, expect, test } from 'vitest'
import type { Tid } from '../../../src/abi/brand.ts'
import { RLIMIT } from '../../../src/abi/rlimit.ts'
import type { Caller } from '../../../src/calls/caller.ts'
import type { Handle } from '../../../src/kernel/fd.ts'
import { pidfdOpen } from '../../../src/kernel/pidfd.ts'
import { limit, takeBack } from '../../../src/verbs/limit.ts'
import { fixture } from '../../support/fixtures.ts'
import { Look } from '../../support/sched-world.ts'

/**
 * The call takes a number. These tests give the number of a dead process to a new one, which must keep what it has. They
 * change soft limits, which takes no capability.
 */
const HARD = 400n
const HAS = { soft: 100n, hard: HARD }
const TO = { soft: 50n, hard: HARD }

const look = new Look()
const children: ChildProcess[] = []
afterAll(() => {
  look.close()
  for (const child of children) child.kill('SIGKILL')
})

let dead: Handle
let number: Tid

beforeEach(async () => {
  const first = spawn('sleep', ['100'], { stdio: 'ignore' })
  number = first.pid as Tid
  dead = pidfdOpen(number)
  first.kill('SIGKILL')
  await once(first, 'exit')
  const second = spawn('prlimit', [`--nofile=${HAS.soft}:${HARD}`, fixture('pid-at'), `${number}`, 'sleep', '100'])
  children.push(second)
  expect((await once(second.stdout, 'data')).toString()).toBe(`${number}\n`)
  expect(await shown()).toBe(`${HAS.soft} ${HARD}`)
})
const shown = (): Promise<string> => look.limit(number, RLIMIT.NOFILE)

/** As the thread that serves a call: with the right to do it, about a call that waits. */
const caller = { act: (_, action) => action() } as Pick<Caller, 'act'> as Caller
const act = (pidfd: Handle) =>
  limit.run({ task: { tid: number, pidfd }, resource: RLIMIT.NOFILE, limit: TO, old: 0n }, caller)

test('a process that was dead before is not acted on', async () => {
  expect(() => act(dead)).toThrow('ESRCH')
  expect(await shown()).toBe(`${HAS.soft} ${HARD}`)
})

test('a process that died between the last look and the act: the process that has its number gets back what it had', async () => {
  using live = pidfdOpen(process.pid)
  let looks = 0
  const dying: Handle = {
    get raw() {
      return looks++ === 0 ? live.raw : dead.raw
    },
    [Symbol.dispose]() {},
  }
  expect(() => act(dying)).toThrow('ESRCH')
  expect(looks).toBe(2)
  expect(await shown()).toBe(`${HAS.soft} ${HARD}`)
})

test('a process that has set its own limits since keeps them', async () => {
  takeBack(number, RLIMIT.NOFILE, TO, { soft: 10n, hard: HARD })
  expect(await shown()).toBe(`${HAS.soft} ${HARD}`)
})

test('a number that no process has', () => {
  expect(() => takeBack(0x3fff_ffff as Tid, RLIMIT.NOFILE, TO, HAS)).not.toThrow()
})
