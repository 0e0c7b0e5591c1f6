import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, expect, test } from 'vitest'
import { orElse } from '../../../src/kernel/error.ts'
import { CLI, Daemon, Maker } from '../../support/daemon.ts'
import { type Done, execute, until } from '../../support/host.ts'

/** The least that a ring may hold. */
const RECORDS = 4096

let daemon: Daemon
const directory = mkdtempSync(join(tmpdir(), 'intercede-advised-'))
afterAll(() => rmSync(directory, { recursive: true }))
const makers: Maker[] = []
afterEach(async () => {
  for (const maker of makers.splice(0)) maker.end()
  await daemon.close()
})

const KEYS = ['mknod=true', 'mknod.devices=c:10:200', 'setxattr=true']
function start(...more: readonly string[]): Maker {
  const lines = [...KEYS, ...more].map((each) => `security.syscalls.intercept.${each}`)
  const maker = new Maker(daemon, ['--metadata', lines.join('\n')])
  makers.push(maker)
  return maker
}
const intercede = (...args: readonly string[]): Promise<Done> =>
  execute(process.execPath, [CLI, ...args, '--feed', join(daemon.directory, 'feed.sock')])
const ids = async (): Promise<readonly string[]> =>
  (await intercede('ps', '--all', '--format', '{id}')).stdout.trim().split('\n')
const advise = (all: readonly string[], ...more: readonly string[]): Promise<Done> =>
  intercede('advise', ...all.flatMap((id) => ['--container', id]), ...more)

const ADVICE = {
  keys: { mknod: 'true' },
  capabilities: ['MKNOD'],
  used: [{ key: 'mknod', value: 'true' }],
  unused: ['mknod.devices=c:10:200', 'setxattr'],
  optional: [],
}

test.each([
  { what: 'the daemon remembers', config: '' },
  { what: 'history has', config: `history: { path: ${join(directory, 'advised')} }` },
])('containers that are served, observed and ended, of which $what, have the same advice', async ({ config }) => {
  daemon = await Daemon.start(config)
  const [served, observed, over] = [start(), start('mode=observe'), start()]
  for (const maker of [served, over]) expect(await maker.make()).toBe('ok')
  expect(await observed.make()).not.toBe('ok')
  over.end()
  const all = await ids()
  expect(all).toHaveLength(3)
  for (const which of [...all.map((id) => [id]), all]) {
    const { stdout, stderr, status } = await advise(which, '--json')
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 })
    expect(JSON.parse(stdout)).toMatchObject(ADVICE)
    expect(JSON.parse(stdout).used).toMatchObject([{ count: which.length, call: expect.stringMatching(/^mknodat\(/) }])
  }
  const file = join(daemon.directory, 'profile.yaml')
  const { stdout } = await advise(all, '--write', file, '--profile', 'all')
  expect(stdout).toMatch(/^USED +CALLS +THE LAST ONE\nmknod +3 +mknodat/)
  expect(stdout).toContain('Given, but not used: mknod.devices=c:10:200 setxattr\n')
  expect(stdout).not.toContain('REFUSED')
  expect((await execute(process.execPath, [CLI, 'serve', '--check-config', '--config', file])).stdout).toContain('all')
  rmSync(file)
})

test('calls whose records were overwritten are counted, and the options that they may have used stay', async () => {
  daemon = await Daemon.start(`limits: { records: ${RECORDS} }\n`)
  const maker = start()
  for (let count = 0; count < 3; count++) expect(await maker.make()).toBe('ok')
  const flood = start('mknod=false')
  for (let count = 0; count < RECORDS; count++) await flood.make()
  const [id] = await ids()
  const { stdout, stderr } = await advise([id!], '--json')
  expect(stderr).toMatch(/ what 3 earlier calls used, so the keys of mknod stay as the container has them\n$/)
  expect(JSON.parse(stdout)).toMatchObject({
    keys: { mknod: 'true', 'mknod.devices': 'c:10:200' },
    used: [{ key: 'mknod', count: 3 }, { key: 'mknod.devices' }],
    unused: ['setxattr'],
  })
})

test.each([
  {
    what: 'history alone has',
    config: (directory: string) => `history: { path: ${directory}/history }\n`,
    isOver: true,
  },
  { what: 'has no arguments recorded', config: () => 'log: { arguments: none }\n', isOver: false },
])('a container that $what keeps its keys', async ({ config, isOver }) => {
  daemon = await Daemon.start(config(directory))
  const maker = start()
  expect(await maker.make()).toBe('ok')
  const [id] = await ids()
  if (isOver) {
    maker.end()
    await until('it has ended', async () => (await intercede('ps')).stdout.split('\n').length === 2)
    await daemon.close()
    daemon = await Daemon.start(config(directory))
  }
  const { stdout, stderr } = await advise([id!], '--json')
  expect(stderr).toMatch(/ what 1 earlier call used, so the keys of mknod stay as the container has them/)
  expect(JSON.parse(stdout)).toMatchObject({
    keys: { mknod: 'true', 'mknod.devices': 'c:10:200', ...(isOver ? { setxattr: 'true' } : {}) },
    unused: isOver ? [] : ['setxattr'],
  })
})

test('of a container that history alone has, what observe mode left counts, and what only a ceiling lowers does not', async () => {
  const config = (): string =>
    `ceiling: { sched_setscheduler.max_priority: 20 }\nhistory: { path: ${directory}/observed }\n`
  daemon = await Daemon.start(config())
  const maker = start('mode=observe')
  expect(await maker.make()).not.toBe('ok')
  const [id] = await ids()
  const stopAndStart = async (): Promise<void> => {
    await daemon.close()
    daemon = await Daemon.start(config())
  }
  const before = await advise([id!], '--json')
  expect(JSON.parse(before.stdout)).toMatchObject({ used: [{ key: 'mknod', count: 1 }], unused: ADVICE.unused })
  maker.end()
  await until('it has ended', async () => (await intercede('ps')).stdout.split('\n').length === 2)
  await stopAndStart()
  const { stdout, stderr } = await advise([id!], '--json')
  expect(stderr).toMatch(/ what 1 earlier call used, so the keys of mknod stay as the container has them/)
  expect(JSON.parse(stdout)).toMatchObject({
    keys: { mknod: 'true', 'mknod.devices': 'c:10:200' },
    used: [{ key: 'mknod', count: 1 }, { key: 'mknod.devices' }],
    unused: ['setxattr'],
  })
})

test('a ceiling below what was refused is named', async () => {
  daemon = await Daemon.start('ceiling: { mknod: false }\n')
  const maker = start()
  expect(await maker.make()).not.toBe('ok')
  const { stdout, stderr } = await advise(await ids())
  expect(stdout).toMatch(/^REFUSED.*\nmknod +1 /m)
  expect(stderr).toMatch(/: mknod=true is above the ceiling "false" of the configuration: raise that too\n$/)
})

test('what observe mode left counts once, also while the daemon still remembers a container that has ended', async () => {
  daemon = await Daemon.start(`history: { path: ${directory}/once }\n`)
  const maker = start('mode=observe')
  for (let count = 0; count < 2; count++) await maker.make()
  const [id] = await ids()
  maker.end()
  await until('it has ended', async () => (await intercede('ps')).stdout.split('\n').length === 2)
  const { stdout, stderr } = await advise([id!], '--json')
  expect(stderr).toBe('')
  expect(JSON.parse(stdout)).toMatchObject({ used: [{ key: 'mknod', count: 2 }], unused: ADVICE.unused })
})

test.each(['SIGSTOP', 'SIGKILL'] as const)(
  'a container that may have made calls since %s to its daemon keeps all its keys',
  async (signal) => {
    const history = join(directory, signal)
    daemon = await Daemon.start(`history: { path: ${history} }\n`)
    const maker = start()
    const [id] = await ids()
    const lines = (): string => orElse('', () => readFileSync(join(history, 'history.jsonl'), 'utf8'))
    await until('history has it', () => lines().includes(`"id":"${id}"`), 20)
    process.kill(daemon.pid!, signal)
    if (signal === 'SIGKILL') await until('the daemon has ended', () => daemon.pid === undefined, 10)
    try {
      const { stdout, stderr } = await advise([id!], '--json', '--history', history)
      expect(stderr).toMatch(/: it is not known what it called after 2\S+Z, so all its keys stay as it has them$/m)
      expect(stderr).not.toContain('has not made any call')
      expect(JSON.parse(stdout)).toMatchObject({
        keys: { mknod: 'true', 'mknod.devices': 'c:10:200', setxattr: 'true' },
        unused: [],
      })
    } finally {
      if (daemon.pid !== undefined) process.kill(daemon.pid, 'SIGCONT')
      maker.end()
    }
  },
)

test('no such container, a command beside a container, and options of a run are refused in words', async () => {
  daemon = await Daemon.start()
  expect(await advise(['nobody'])).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('Cannot find container'),
  })
  const usage = { status: 2, stdout: '' }
  expect(await advise(['nobody'], '--', 'true')).toMatchObject({
    ...usage,
    stderr: expect.stringContaining('give either'),
  })
  expect(await advise(['nobody'], '--memory', '64m')).toMatchObject({
    ...usage,
    stderr: expect.stringContaining('Cannot use options of a run with --container'),
  })
})
