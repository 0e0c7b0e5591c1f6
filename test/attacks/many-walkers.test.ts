// Containers that make the engine start walkers: how many there are at once, and who loses one. Each takes 10 MB.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Maker } from '../support/daemon.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { BASE, directory, Host, until } from '../support/host.ts'
import { Hostile, unkillable, walkersOf, withoutFuse } from '../support/hostile.ts'
import { PatchedBuild } from '../support/patched-build.ts'
import { withReason } from '../support/skipped.ts'

const cannot = missing('gcc', 'nsenter', 'setpriv')
/** Of this build, so that few containers are more than there may be walkers. */
const WALKERS = 3

let build: PatchedBuild
let host: Host
/** Only walkers reach it. */
let closed: string
let makers: readonly Maker[] = []

const start = (count: number) =>
  Array.from({ length: count }, () => new Maker({ socket: host.socket, directory: closed }))
const walkers = () => walkersOf(host.enginePid)

beforeAll(() => {
  if (!cannot) build = new PatchedBuild('link/limits.js', 'WALKERS = 64', `WALKERS = ${WALKERS}`)
})
beforeEach(async () => {
  if (cannot) return
  host = await Host.start(undefined, {}, build.url)
  closed = directory(join(directory(join(host.directory, 'closed'), BASE + 1, 0o700), 'in'), BASE + 1, 0o700)
})
afterEach(() => {
  for (const maker of makers) maker.end()
  makers = []
  host?.close()
})
afterAll(() => build?.remove(host.maybeEnginePid))

describe.skipIf(cannot)(withReason('more containers than there may be walkers', cannot), { timeout: 60_000 }, () => {
  test('all are served, and never are there more walkers; who called last has one', async () => {
    makers = start(2 * WALKERS)
    let most = 0
    const watch = setInterval(() => {
      most = Math.max(most, walkers().length)
    }, 5)
    for (const _ of [1, 2]) for (const maker of makers) expect(await maker.make()).toBe('ok')
    expect(await Promise.all(makers.map((maker) => maker.make()))).toEqual(makers.map(() => 'ok'))
    clearInterval(watch)
    expect(most).toBe(WALKERS)

    const before = walkers()
    const [first, ...others] = makers.slice(-WALKERS)
    for (const maker of [first!, ...others, first!]) expect(await maker.make()).toBe('ok')
    const kept = walkers()
    expect(await makers[0]!.make()).toBe('ok')
    expect(await first!.make()).toBe('ok')
    expect(walkers()).toHaveLength(WALKERS)
    // One of the three was exchanged: not that of who called last.
    expect(walkers().filter((pid) => kept.includes(pid))).toHaveLength(WALKERS - 1)
    expect(before).toHaveLength(WALKERS)
  })

  test('a container whose walkers the kernel ends, as when memory is short, gets others', async () => {
    makers = start(1)
    /** The call may come before the engine knows of the end: then the next one gets another walker. */
    async function killed(signal: NodeJS.Signals): Promise<string> {
      for (const pid of walkers()) process.kill(pid, signal)
      await until('it has ended', () => walkers().length === 0)
      await makers[0]!.make()
      return await makers[0]!.make()
    }
    expect(await makers[0]!.make()).toBe('ok')
    for (const _ of [1, 2, 3, 4]) expect(await killed('SIGKILL')).toBe('ok')
    // Other ends count: see ABANDONED_LIMIT.
    expect(await killed('SIGTERM')).toBe('ok')
    expect(await killed('SIGTERM')).toBe('Operation not permitted')
  })
})

const unhung = cannot ?? withoutFuse()
const memory = (pid: number) => Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1])

describe.skipIf(unhung)(withReason('walkers that hang', unhung), { timeout: 60_000 }, () => {
  test('leave their memory at once, and their places to others', async () => {
    const hostiles = Array.from({ length: WALKERS }, () => new Hostile(host.directory))
    try {
      for (const hostile of hostiles) {
        const calls = [fixture('stuck-calls'), '--how', 'silent', join(hostile.mount, 'dir/n')]
        await hostile.start(host.socket, [], calls)
      }
      await until('each has a walker', () => walkers().length === WALKERS)
      const pids = walkers()
      await until('all are given up', () => pids.every((pid) => unkillable(pid) > 0), 20)
      await until('none has memory', () => pids.every((pid) => memory(pid) < 500), 5)
      makers = start(WALKERS)
      for (const maker of makers) expect(await maker.make()).toBe('ok')
      expect(pids.map((pid) => unkillable(pid) > 0)).toEqual(pids.map(() => true))
    } finally {
      await Promise.all(hostiles.map((hostile) => hostile.end()))
    }
  })
})
