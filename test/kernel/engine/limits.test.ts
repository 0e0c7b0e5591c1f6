import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { connectUnix } from '../../../src/kernel/socket.ts'
import { CLI, Maker } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { devicePrograms, execute, Host, until } from '../../support/host.ts'
import { Hostile, withoutFuse } from '../../support/hostile.ts'
import { JournalView } from '../../support/journal-view.ts'
import { Load, policy, sleep } from '../../support/restart-world.ts'
import { withReason } from '../../support/skipped.ts'

let host: Host
const makers: Maker[] = []
beforeEach(async () => {
  host = await Host.start(policy, { limits: { callsPerContainer: 1, listenersPerContainer: 2, connections: 2 } })
})
afterEach(() => {
  for (const maker of makers.splice(0)) maker.end()
  host.close()
})

const start = (...options: readonly string[]): Maker => {
  const maker = new Maker(host, options)
  makers.push(maker)
  return maker
}

test('more calls at once than a container may have wait for their turn, and that is an event', async () => {
  const load = new Load(host, 'load')
  try {
    const waited = () => host.events.find(({ type }) => type === 'limit')
    await until('calls have waited', () => waited() !== undefined, 30)
    expect(waited()).toEqual({ type: 'limit', id: 'load', limit: 'callsPerContainer', value: 1 })
    expect((await load.end()).failures).toEqual({})
  } finally {
    await load.kill()
  }
})

test('more calls at once than all containers may have wait for their turn', async () => {
  const small = await Host.start(policy, { limits: { calls: 8 } })
  const loads = Array.from({ length: 16 }, (_, number) => new Load(small, `many-${number}`, { processes: 2 }))
  try {
    const served = (): number => small.events.filter(({ type }) => type === 'registered').length
    await until('all are served', () => served() === loads.length, 30)
    await sleep(2000)
    const said = await Promise.all(loads.map((load) => load.end()))
    expect(said.map(({ failures }) => failures)).toEqual(loads.map(() => ({})))
    expect(said.reduce((sum, { calls }) => sum + calls, 0)).toBeGreaterThan(loads.length)
  } finally {
    for (const load of loads) await load.kill()
    small.close()
  }
}, 60_000)

test('more listeners than a container may have are refused with a reason, and their calls do not hang', async () => {
  expect(await start('--id', 'many').make()).toBe('ok')
  expect(await start('--id', 'many', '--status', 'running').make()).not.toBe('undefined')
  expect(await start('--id', 'many', '--status', 'running').make()).toBe('Function not implemented')
  expect(host.events.filter(({ type }) => type === 'refused')).toEqual([
    {
      type: 'refused',
      message:
        'Cannot serve another process of container many, so its calls fail with ENOSYS: 2 listeners of it are served already; raise limits.listenersPerContainer in the configuration, then "intercede reload"',
      cause: 'limit',
      id: 'many',
    },
  ])
  const ask = async (...args: readonly string[]): Promise<string> =>
    (await execute(process.execPath, [CLI, ...args, '--feed', host.feedSocket])).stdout
  const why = 'many: Cannot serve another process of .* raise limits\\.listenersPerContainer .*'
  expect(await ask('explain', 'many')).toMatch(new RegExp(`^${why} \\(once \\d+s ago\\)$`, 'm'))
  expect(await ask('events', 'many', '--no-follow')).toMatch(new RegExp(`  many  refused: ${why.slice(6)}$`, 'm'))
  expect(await ask('ps', '--all', '--format', '{id} {state}')).toMatch(/^many refused$/m)
})

test('more connections than there may be are refused with a reason', async () => {
  const silent = [connectUnix(host.socket), connectUnix(host.socket), connectUnix(host.socket)]
  const isRefused = (): boolean =>
    host.events.some((event) => event.type === 'refused' && /2 runtimes are connected already/.test(event.message))
  await until('the third is refused', isRefused)
  for (const fd of silent) fd[Symbol.dispose]()
  const mknod = () => host.call(['mknod', join(host.directory, 'node'), '020666', '1', '3'])
  await until('they are gone', () => host.events.filter(({ type }) => type === 'refused').length >= 3)
  expect(await mknod()).toMatchObject({ result: 'ok' })
})

test.skipIf(withoutFuse())(
  withReason(
    'calls that hang take no more than all containers may have; while none ends, more are left to the kernel',
    withoutFuse(),
  ),
  async () => {
    const calls = 8
    const bpf = { ...devicePrograms, delegateCmds: new Set(['prog_load']) }
    const small = await Host.start({ ...policy, bpf }, { limits: { calls, callsPerContainer: calls } })
    const hostiles: Hostile[] = []
    const strike = async (): Promise<void> => {
      const hostile = new Hostile(small.directory)
      hostiles.push(hostile)
      const stuck = ['--threads', `${calls}`, '--how', 'silent', join(hostile.merged, 'dir/n')]
      await hostile.start(small.socket, ['--overlay', hostile.overlay], [fixture('stuck-calls'), ...stuck])
    }
    const journal = new JournalView()
    const inFlight = (): number => journal.states().filter((state) => state !== 'waiting').length
    const make = async (name: string) => {
      const { result, records } = await small.call(['mknod', join(small.directory, name), '020666', '1', '3'])
      return { result, reason: records.at(-1)?.reason }
    }
    try {
      // Half of them; from there on each container has one.
      for (const most of [4, 5, 6, 7]) {
        await strike()
        await until(`${most} calls hang`, () => inFlight() === most)
      }
      expect(await make('last')).toEqual({ result: 'ok', reason: 'done' })
      await strike()
      await until('all calls hang', () => inFlight() === calls)
      // After it has waited in vain; the next one need not.
      expect(await make('over')).toEqual({ result: 'EPERM', reason: 'containerBusy' })
      expect(await make('over')).toEqual({ result: 'EPERM', reason: 'containerBusy' })
      // The kernel would say EINVAL.
      expect(await small.run(['--bpf'], [fixture('call-steps'), 'bpf', '36', 'p:8', '8'])).toMatchObject({
        stdout: 'EPERM\n',
      })
      await hostiles[4]!.end()
      await until('one is over', () => inFlight() < calls)
      expect(await make('again')).toEqual({ result: 'ok', reason: 'done' })
      // Whoever lets calls hang again cannot make the others wait so long each time.
      await strike()
      await until('all calls hang again', () => inFlight() === calls)
      const start = performance.now()
      expect(await make('over')).toEqual({ result: 'EPERM', reason: 'containerBusy' })
      expect(performance.now() - start).toBeLessThan(4000)
    } finally {
      for (const hostile of hostiles) await hostile.end()
      small.close()
    }
  },
  60_000,
)
