import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connectUnix, send, shutdown } from '../../../src/kernel/socket.ts'
import { Daemon, Maker } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { execute, Host, until } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'
import { withReason } from '../../support/skipped.ts'

let host: Host
beforeAll(async () => {
  host = await Host.start(undefined, { restartPause: 60_000 })
  host.mayLoseEngine = true
})
afterAll(() => host?.close())

/** What `intercede metrics` says, by series. */
async function metrics(feed: string): Promise<ReadonlyMap<string, number>> {
  const { status, stdout, stderr } = await execute(process.execPath, [CLI, 'metrics', '--feed', feed])
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const lines = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]))
}
const ofHost = (): Promise<ReadonlyMap<string, number>> => metrics(host.feedSocket)

const DONE = 'intercede_calls_total{syscall="mknod",verdict="done",reason="done"}'
const hasPromtool = spawnSync('promtool', ['--version']).status === 0

test('calls are counted by call, verdict and reason, and how long they took; the end of a container takes none away', async () => {
  await host.run([], [fixture('caller'), 'mknod', join(host.directory, 'n1'), '020666', '1', '3'])
  await until('its container has ended', async () => (await ofHost()).get('intercede_listeners') === 0)
  expect((await ofHost()).get(DONE)).toBe(1)
  await host.run([], [fixture('caller'), 'mknod', join(host.directory, 'n2'), '020666', '1', '3'])
  await until('so has the next', async () => (await ofHost()).get('intercede_listeners') === 0)
  const all = await ofHost()
  expect(all.get(DONE)).toBe(2)
  const duration = 'intercede_call_duration_seconds'
  const labels = 'syscall="mknod",verdict="done"'
  expect(all.get(`${duration}_count{${labels}}`)).toBe(2)
  expect(all.get(`${duration}_bucket{${labels},le="20"}`)).toBe(2)
  expect(all.get(`${duration}_bucket{${labels},le="0.000005"}`)).toBe(0)
  expect(all.get(`${duration}_sum{${labels}}`)).toBeGreaterThan(0)
})

test('hand-overs are counted by runtime and result, and processes measured', async () => {
  using client = connectUnix(host.socket)
  send(client, Buffer.from('no state'))
  shutdown(client)
  // As of an exec whose program does not exist.
  connectUnix(host.socket)[Symbol.dispose]()
  const refused = 'intercede_registrations_total{runtime="unknown",result="refused",cause="failed"}'
  const abandoned = 'intercede_registrations_total{runtime="unknown",result="abandoned"}'
  const isCounted = (all: ReadonlyMap<string, number>): boolean => all.get(refused) === 1 && all.get(abandoned) === 1
  await until('both are counted', async () => isCounted(await ofHost()))
  const { stdout } = await execute(process.execPath, [
    CLI,
    'events',
    '--feed',
    host.feedSocket,
    '--no-follow',
    '--tail',
    '50',
  ])
  expect(stdout).toContain('refused: ')
  expect(stdout).not.toContain('without a hand-over')
  const all = await ofHost()
  expect(all.get('intercede_registrations_total{runtime="unknown",result="served"}')).toBe(2)
  for (const name of ['keeper', 'engine']) {
    expect(all.get(`intercede_process_resident_memory_bytes{process="${name}"}`)).toBeGreaterThan(1e7)
    expect(all.get(`intercede_process_threads{process="${name}"}`)).toBeGreaterThan(1)
    const start = all.get(`intercede_process_start_time_seconds{process="${name}"}`)!
    expect(Math.abs(Date.now() / 1000 - start)).toBeLessThan(3600)
  }
  expect([...all.keys()].join()).toMatch(/intercede_build_info\{version="\d[^"]*",build="[0-9a-f]{16}"\}/)
})

test.skipIf(!hasPromtool)(
  withReason('promtool finds nothing wrong with them', hasPromtool ? undefined : 'promtool is missing'),
  async () => {
    const { stdout } = await execute(process.execPath, [CLI, 'metrics', '--feed', host.feedSocket])
    const { status, ...said } = spawnSync('promtool', ['check', 'metrics'], { input: stdout, encoding: 'utf8' })
    expect({ status, stdout: said.stdout, stderr: said.stderr }).toEqual({ status: 0, stdout: '', stderr: '' })
  },
)

test('the end of engines is counted by its cause, and what is left to the kernel without one as noEngine', async () => {
  const container = host.run(
    [],
    ['sh', '-c', `sleep 6; exec ${fixture('caller')} mknod ${join(host.directory, 'n3')} 020666 1 3`],
  )
  await until('it is there', async () => (await ofHost()).get('intercede_listeners') === 1)
  const before = await ofHost()
  const isPassing = (): boolean => host.events.some((event) => event.type === 'engineEnded' && event.pause > 0)
  while (!isPassing()) {
    const pid = host.maybeEnginePid
    if (pid !== undefined) process.kill(pid, 'SIGKILL')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  await container
  const all = await ofHost()
  expect(all.get('intercede_engine_restarts_total{cause="killed"}')).toBeGreaterThanOrEqual(5)
  expect(all.get('intercede_engine_restarts_total{cause="hung"}')).toBe(0)
  expect(all.get('intercede_calls_total{syscall="mknod",verdict="left",reason="noEngine"}')).toBe(1)
  expect([before, all].map((each) => each.get('intercede_calls_without_engine_total'))).toEqual([0, 1])
  await until('its record is there', () => host.records.some(({ reason }) => reason === 'noEngine'))
  const records = host.records.filter(({ reason }) => reason === 'noEngine')
  expect(records).toMatchObject([{ verdict: 'continue', errno: 0 }])
})

test('counts go on over a reload, which is counted too; containers are named only if the configuration says so', async () => {
  const daemon = await Daemon.start()
  try {
    const feed = join(daemon.directory, 'feed.sock')
    const maker = new Maker(daemon)
    expect(await maker.make()).toBe('ok')
    const done = DONE.replace('mknod', 'mknodat')
    expect((await metrics(feed)).get(done)).toBe(1)
    daemon.configure('nonsense: 1')
    process.kill(daemon.pid!, 'SIGHUP')
    const failed = 'intercede_reloads_total{result="failed"}'
    await until('the reload has failed', async () => (await metrics(feed)).get(failed) === 1)
    daemon.configure('metrics: { container: true }')
    process.kill(daemon.pid!, 'SIGHUP')
    await until('it has reloaded', () => daemon.logged('serving') > 1)
    expect(await maker.make()).toBe('ok')
    const named = (all: ReadonlyMap<string, number>): string | undefined =>
      [...all.keys()].find((key) => key.startsWith(done.slice(0, -1)) && key.includes('container="'))
    await until('containers are named', async () => named(await metrics(feed)) !== undefined)
    const all = await metrics(feed)
    expect(all.get(named(all)!)).toBe(2)
    expect(all.get('intercede_reloads_total{result="done"}')).toBe(1)
    expect(all.get(failed)).toBe(1)
    maker.end()
  } finally {
    await daemon.close()
  }
})
