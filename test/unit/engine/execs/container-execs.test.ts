import { writeSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import type { Container } from '../../../../src/caller/identity/container.ts'
import {
  ContainerExecs,
  PROGRAMS_PER_CONTAINER,
  STARTING,
  STARTING_PER_CONTAINER,
  WAITING,
  WAITING_PER_CONTAINER,
} from '../../../../src/engine/execs/container-execs.ts'
import type { ExecRequest } from '../../../../src/engine/execs/exec-job.ts'
import { ExecJob } from '../../../../src/engine/execs/exec-job.ts'
import { dup, type Fd } from '../../../../src/kernel/fd.ts'
import type { Child } from '../../../../src/processes/child.ts'

/** No process has such a number. */
let pid = 0x7000_0000
const PROCESS = JSON.stringify({ oomScoreAdj: 0, user: { umask: 0o22 } })
/** The words of `ExecJob`. */
const STATES = ['asked', 'runs', 'refused', 'ended', 'told']

let dropped: number[] = []
let faults: string[] = []
/** Why a program cannot be started. */
let cannot: Error | undefined
let execs: ContainerExecs
/** What the last program has as its standard error. */
let output: Fd | undefined
let jobs = 0

beforeEach(() => {
  dropped = []
  faults = []
  cannot = undefined
  execs = new ContainerExecs({
    start: (_, { fds }) => {
      if (cannot) throw cannot
      output?.[Symbol.dispose]()
      output = dup(fds[2]!)
      return { pid: ++pid, isOver: true, ended: new Promise(() => {}) } as unknown as Child
    },
    drop: (listener) => dropped.push(listener),
    onProgram: () => {},
    onFault: (message) => faults.push(message),
  })
})

afterEach(() => output?.[Symbol.dispose]())

const containers = (index: number): Container =>
  ({
    index,
    id: `c${index}`,
    uidMap: [],
    gidMap: [],
    exec: { program: '/usr/bin/crun', options: [], env: {}, process: { env: [] }, filters: 1 },
  }) as unknown as Container

interface Asked {
  readonly job: string
  readonly state: () => string | undefined
  readonly isPressed: () => boolean
}

function ask(container: number): Asked {
  const job = `${++jobs}`
  const answer = new SharedArrayBuffer(16)
  const words = new Int32Array(answer)
  execs.start(containers(container), { job, program: 'p', caller: 1 as Tid, process: PROCESS, answer })
  return { job, state: () => STATES[words[0]!], isPressed: () => words[2] === 1 }
}
const states = (asked: readonly Asked[]): (string | undefined)[] => asked.map(({ state }) => state())
const many = (count: number, container: (at: number) => number): Asked[] =>
  Array.from({ length: count }, (_, at) => ask(container(at)))

describe('start()', () => {
  test('one container may have half of the starts; one more of it waits, and the rest is refused', () => {
    const asked = many(8, () => 0)
    expect(states(asked)).toEqual([
      ...Array(STARTING_PER_CONTAINER).fill('runs'),
      ...Array(WAITING_PER_CONTAINER).fill('asked'),
      ...Array(8 - STARTING_PER_CONTAINER - WAITING_PER_CONTAINER).fill('refused'),
    ])
    expect(asked.map(({ isPressed }) => isPressed())).not.toContain(true)
  })

  test('a container that has none starting is next, before those that wait longer, and those that start are pressed', () => {
    const others = many(3 * STARTING, (at) => at % STARTING)
    expect(states(others.slice(0, STARTING))).not.toContain('asked')
    const victim = ask(STARTING)
    expect(victim.state()).toBe('asked')
    expect(others[0]!.isPressed()).toBe(true)
    execs.over(others[0]!.job, undefined)
    expect(victim.state()).toBe('runs')
    // The container of the first has none now, so the others of it do not wait for nothing.
    expect(others[1]!.isPressed()).toBe(true)
  })

  test('a full queue makes room for a container that has less', () => {
    const others = many(3 * STARTING, (at) => at % STARTING)
    const waiting = others.filter(({ state }) => state() === 'asked')
    expect(waiting).toHaveLength(WAITING)
    const victim = ask(STARTING)
    expect(victim.state()).toBe('asked')
    expect(waiting.filter(({ state }) => state() === 'refused')).toHaveLength(1)
  })

  test('who waits too long is refused', () => {
    vi.useFakeTimers()
    try {
      const asked = many(STARTING_PER_CONTAINER + 1, () => 0)
      expect(asked.at(-1)!.state()).toBe('asked')
      vi.advanceTimersByTime(6000)
      expect(asked.at(-1)!.state()).toBe('refused')
    } finally {
      vi.useRealTimers()
    }
  })

  test('a container has so many programs at most that serve, and again when one has ended', () => {
    for (let listener = 0; listener < PROGRAMS_PER_CONTAINER; listener++) {
      const { job, state } = ask(0)
      expect(state()).toBe('runs')
      execs.listens(listener, 0, pid)
      execs.over(job, undefined)
    }
    expect(ask(0).state()).toBe('refused')
    expect(ask(1).state()).toBe('runs')
    execs.listensNoMore(5)
    expect(ask(0).state()).toBe('runs')
    expect(dropped).toEqual([])
  })
})

test('a program that goes on may say more, which nobody reads: it is not ended, and does not wait', () => {
  execs.over(ask(0).job, undefined)
  const { raw } = output!
  const word = Buffer.alloc(4096)
  expect(() => Array.from({ length: 1000 }, () => writeSync(raw, word))).toThrow('EAGAIN')
})

test('that no program can be started in a container is told once, until one was', () => {
  cannot = new Error('keyctl: EDQUOT')
  expect(states([ask(0), ask(0), ask(0), ask(1)])).toEqual(Array(4).fill('refused'))
  const [one, other] = [0, 1].map((index) => `Cannot start a program in container c${index}: keyctl: EDQUOT`)
  expect(faults).toEqual([one, other])
  cannot = undefined
  expect(ask(0).state()).toBe('runs')
  cannot = new Error('keyctl: EDQUOT')
  expect(states([ask(0), ask(0)])).toEqual(['refused', 'refused'])
  execs.forget(containers(1))
  ask(1)
  expect(faults).toEqual([one, other, one, other])
})

describe('the listener of a program that has failed is dropped', () => {
  test('that is here before', () => {
    const { job } = ask(0)
    execs.listens(7, 0, pid)
    execs.over(job, 'fuseFailed')
    expect(dropped).toEqual([7])
  })

  test('that comes later', () => {
    execs.over(ask(0).job, 'fuseFailed')
    execs.listens(7, 0, pid)
    expect(dropped).toEqual([7])
  })

  test('but not that of another container, or of a process that we have not started', () => {
    execs.over(ask(0).job, 'fuseFailed')
    execs.listens(7, 1, pid)
    execs.listens(8, 0, pid + 1)
    execs.listens(9, 0, 0)
    expect(dropped).toEqual([])
  })

  test('but not another one that has its number since it was closed', () => {
    const { job } = ask(0)
    execs.listens(7, 0, pid)
    execs.listensNoMore(7)
    execs.listens(7, 1, 0)
    execs.over(job, 'fuseFailed')
    expect(dropped).toEqual([])
  })
})

test('ExecJob.isPressed is what ContainerExecs says', () => {
  let asked: ExecRequest | undefined
  const main = {
    ask: (request: ExecRequest) => {
      asked = request
      execs.start(containers(0), request)
    },
    over: () => {},
  }
  const jobsOfOne = Array.from({ length: STARTING / 2 }, (_, at) => new ExecJob(`j${at}`, main))
  const what = { program: 'p', caller: 1 as Tid, process: PROCESS }
  expect(jobsOfOne.map((job) => job.start(what))).not.toContain(false)
  expect(asked).toMatchObject(what)
  many(STARTING / 2 + 1, (at) => at + 1)
  expect(jobsOfOne.map(({ isPressed }) => isPressed)).toEqual(Array(STARTING / 2).fill(true))
})
