import { readdirSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Daemon, Maker } from '../../support/daemon.ts'
import { execute, until } from '../../support/host.ts'

let daemon: Daemon
let maker: Maker
beforeEach(async () => {
  daemon = await Daemon.start('default: { security.syscalls.intercept.mknod: true }\nlog: { level: debug }')
  maker = new Maker(daemon)
  expect(await maker.make()).toBe('ok')
})
afterEach(async () => {
  maker.end()
  await daemon.close()
})

/** Lets a process have so many descriptors more than it has now without a gap, and without those that it has for a moment. */
async function leave(pid: number, count: number): Promise<void> {
  let taken: readonly string[] = []
  await until('it has as many as before', async () => {
    const before = taken
    await new Promise((resolve) => setTimeout(resolve, 50))
    taken = readdirSync(`/proc/${pid}/fd`)
    return before.join() === taken.join()
  })
  let free = 0
  while (taken.includes(String(free))) free++
  await execute('prlimit', ['--pid', String(pid), `--nofile=${free + count}:`])
}

const failures = (): string => JSON.stringify(daemon.log.filter(({ level }) => level === 'error' || level === 'warn'))

test('a keeper that has no descriptor for the next engine lives, says so, and leaves the calls to the kernel', async () => {
  const { pid, engine } = daemon
  await leave(pid!, 0)
  process.kill(engine, 'SIGKILL')
  expect(await maker.make()).toBe('Operation not permitted')
  expect(daemon.pid).toBe(pid)
  expect(failures()).toContain('could not be started: socketpair: EMFILE')
})

test.each([0, 1, 3, 5])(
  'an engine that has %i descriptors for a new container is replaced by one that has more',
  async (count) => {
    await leave(daemon.engine, count)
    expect(await new Maker(daemon).once()).toBe('ok')
    expect(await maker.make()).toBe('ok')
    expect(failures()).toMatch(/no descriptor is free|EMFILE/)
  },
)

test('an engine that has none for the look at the device rules does not fail for that', async () => {
  const { engine } = daemon
  // Enough for what a call opens, and not for the pipes of a process.
  await leave(engine, 4)
  await new Promise((resolve) => setTimeout(resolve, 11_000))
  expect(['ok', 'Operation not permitted']).toContain(await maker.make())
  expect(failures()).not.toContain('spawn')
  expect(daemon.engine).toBe(engine)
})

test.each(['SIGTERM', 'SIGKILL'] as const)(
  'a keeper that is ended by %s while its engine is stopped takes it along',
  async (signal) => {
    const { pid, engine } = daemon
    process.kill(engine, 'SIGSTOP')
    const made = maker.make()
    process.kill(pid!, signal)
    // It goes on, for a last call perhaps.
    expect(['ok', 'Function not implemented']).toContain(await made)
    await until('its engine has ended', () => !readdirSync('/proc').includes(String(engine)), 10)
    expect(await maker.make()).toBe('Function not implemented')
  },
)

test('a call for which the engine has no descriptor is left to the kernel, for that reason', async () => {
  await leave(daemon.engine, 0)
  expect(await maker.make()).toBe('Operation not permitted')
  await expect.poll(() => JSON.stringify(daemon.log), { timeout: 10_000 }).toContain('failed with errno 24')
})
