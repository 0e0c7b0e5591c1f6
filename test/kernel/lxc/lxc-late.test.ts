import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { fixture } from '../../support/fixtures.ts'
import { execute, Host, until } from '../../support/host.ts'
import { Hostile, withoutFuse } from '../../support/hostile.ts'
import { CLI } from '../../support/machine.ts'
import { Monitor } from '../../support/monitor.ts'
import { withReason } from '../../support/skipped.ts'
import { threadStateOf } from '../../support/stat.ts'

/** A monitor of LXC waits so long for a reply; what comes later it takes for the reply to its next call. */
const PATIENCE_MS = 30_000

const statesOf = (pid: number): readonly string[] =>
  readdirSync(`/proc/${pid}/task`).map((tid) => threadStateOf(pid, tid))

const shown = async (host: Host, ...words: readonly string[]): Promise<string> =>
  (await execute(process.execPath, [CLI, ...words, '--feed', host.feedSocket])).stdout

/** Both wait for half a minute. */
const AT_ONCE = { concurrent: true }

test('a call that came while the engine stood still is not served when it is too late', AT_ONCE, async () => {
  // As after a suspend of the machine: nobody has missed the engine's beat.
  vi.useFakeTimers({ toFake: ['setInterval'] })
  const host = await Host.start()
  vi.useRealTimers()
  const lxc = await Monitor.start(host)
  const pid = host.enginePid
  try {
    lxc.ask('mknod', join(host.directory, 'first'), '020666', '1', '3')
    await lxc.serve()
    lxc.ask('mknod', join(host.directory, 'late'), '020666', '1', '3')
    const notification = await lxc.receive()
    process.kill(pid, 'SIGSTOP')
    // Each thread stops when it gets a processor: until then one may serve the call.
    await until('every thread stands still', () => statesOf(pid).every((state) => state === 'T'))
    const start = performance.now()
    lxc.forward(lxc.message(notification), notification)
    await sleep(21_000)
    process.kill(pid, 'SIGCONT')
    expect(await lxc.reply()).toBe('closed')
    expect(performance.now() - start).toBeLessThan(PATIENCE_MS)
    // The monitor answers now, by itself; nothing was done.
    expect(lxc.returned).toEqual(['ok'])
    const isSaid = (): boolean =>
      host.events.some((event) => event.type === 'fault' && /too long|hangs for/.test(event.message))
    await until('it is said', isSaid)
  } finally {
    await lxc.end()
    host.close()
  }
})

test.skipIf(withoutFuse())(
  withReason(
    'a call that hangs: the monitor is let go before it gives up, and others are served all the while',
    withoutFuse(),
  ),
  AT_ONCE,
  async () => {
    // Those of the other test, which would take this keeper's beat too.
    await until('timers are real', () => !vi.isFakeTimers(), 30)
    const host = await Host.start()
    const hostile = new Hostile(host.directory)
    const call = ['--threads', '2', '--how', 'silent', '--touch', '--in-file', join(hostile.mount, 'file')]
    const calls = [fixture('stuck-calls'), ...call]
    const lxc = await Monitor.over(host, (socket) => hostile.start(socket, [], calls, ['--no-killable']))
    const other = await Monitor.start(host)
    try {
      const start = performance.now()
      const [notification, second] = [await lxc.receive(), await lxc.receive()]
      lxc.forward(lxc.message(notification), notification)
      other.ask('mknod', join(host.directory, 'other'), '020666', '1', '3')
      await other.serve()
      expect(await other.returns(1)).toBe('ok')
      const reply = lxc.reply(PATIENCE_MS / 1000)
      const isStuck = async (): Promise<boolean> => (await shown(host, 'metrics')).includes('intercede_calls_stuck 1\n')
      await until('it counts as stuck', isStuck, 15)
      const top = await shown(host, 'top', '--once', '--interval', '0.1', '--format', '{syscall} {inFlight} {stuck}')
      expect(top).toBe('- 1 1\n')
      expect(await reply).toBe('closed')
      const took = performance.now() - start
      expect(took).toBeGreaterThan(15_000)
      expect(took).toBeLessThan(PATIENCE_MS - 5000)
      // Another call while the first one hangs, on a connection of its own.
      lxc.reconnect()
      lxc.forward(lxc.message(second), second)
      expect(await lxc.reply(0.5)).toBe('nothing')
      // A monitor that does not wait for the reply has given up.
      lxc.forward(lxc.message(notification), notification)
      expect(await lxc.reply()).toBe('closed')
    } finally {
      await hostile.end()
      await lxc.end()
      await other.end()
      host.close()
    }
  },
)
