// The files of the program are replaced while it serves: it goes on as the new program, or as the old one and says why.
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { Daemon, Maker } from '../../support/daemon.ts'
import { execute, until } from '../../support/host.ts'
import { Installed } from '../../support/installed.ts'
import { Load, metadata, sleep } from '../../support/restart-world.ts'
import { stateOf } from '../../support/stat.ts'

const UPGRADES = Number(process.env.INTERCEDE_UPGRADES ?? 3)
/** Others may work on the machine too. */
const START_S = 60

interface Upgrade {
  readonly installed: Installed
  readonly daemon: Daemon
  readonly maker: Maker
}

/** A daemon of a program whose files can be replaced, and a container that it serves. */
const testUpgrade = (what: string, config: string, action: (all: Upgrade) => Promise<void>): void =>
  test(what, { timeout: 120_000 }, async () => {
    const installed = new Installed()
    const daemon = await Daemon.start(config, installed.program)
    const maker = new Maker(daemon)
    try {
      expect(await maker.make()).toBe('ok')
      await action({ installed, daemon, maker })
    } finally {
      maker.end()
      await daemon.close()
      installed.remove()
    }
  })

test('SIGHUP while the next program reads the configuration: it is read again', { timeout: 120_000 }, async () => {
  const installed = new Installed()
  const daemon = await Daemon.start('reload: manual', installed.program)
  await installed.replace()
  const { pid } = daemon
  const reader = async (): Promise<string> =>
    (await execute('pgrep', ['-P', String(pid), '-f', 'check-config'])).stdout.trim()
  try {
    daemon.configure('defautl: {}')
    process.kill(pid!, 'SIGHUP')
    const children: string[] = []
    await until('it is read', async () => children.push(await reader()) > 0 && children.at(-1) !== '', START_S)
    const child = children.at(-1)!
    // It does not hear of the error before it has got the next signal.
    process.kill(pid!, 'SIGSTOP')
    await until('it has been read', () => stateOf(child) === 'Z', START_S)
    daemon.configure('')
    process.kill(pid!, 'SIGHUP')
    process.kill(pid!, 'SIGCONT')
    await until('it serves again', () => daemon.logged('serving') === 2, START_S)
    expect(daemon.log.filter(({ level }) => level === 'error')).toEqual([])
  } finally {
    await daemon.close()
    installed.remove()
  }
})

for (const { what, end } of [
  // The keeper may have seen the new files first: then the engine has ended already.
  { what: 'the engine ends', end: (engine: number) => void execute('kill', ['-KILL', String(engine)]) },
  { what: 'nothing ends', end: () => {} },
])
  testUpgrade(
    `files that were replaced by another build: the service goes on as that when ${what}`,
    '',
    async ({ installed, daemon, maker }) => {
      const { pid, engine } = daemon
      await installed.prepare()
      installed.swap()
      end(engine)
      while (daemon.logged('serving') < 2) expect(await maker.make()).toBe('ok')
      expect(await maker.make()).toBe('ok')
      expect(daemon.pid).toBe(pid)
      expect(daemon.logged('container goes on')).toBe(1)
      expect(daemon.log.filter(({ message }) => /^Cannot/.test(String(message)))).toEqual([])
    },
  )

testUpgrade(
  'files that were replaced wait for SIGHUP where reload is manual, and no engine is started from them',
  'reload: manual',
  async ({ installed, daemon, maker }) => {
    const waits = (text: RegExp): number => daemon.log.filter(({ message }) => text.test(String(message))).length
    const { pid, engine } = daemon
    await installed.replace()
    await until(
      'it says that it waits',
      () => waits(/^The files of the program were replaced, and .*SIGHUP$/) > 0,
      START_S,
    )
    await sleep(3000)
    expect(await maker.make()).toBe('ok')
    expect([daemon.logged('serving'), waits(/were replaced/)]).toEqual([1, 1])
    process.kill(engine, 'SIGKILL')
    expect(await maker.make()).toBe('Operation not permitted')
    expect(waits(/because the files belong to another version: reload is "manual" .*SIGHUP/)).toBeGreaterThan(0)
    await daemon.reload()
    expect(await maker.make()).toBe('ok')
    expect(daemon.pid).toBe(pid)
  },
)

testUpgrade(
  'files that were replaced by files of another user are not used, whoever asks',
  '',
  async ({ installed, daemon, maker }) => {
    const refusals = (): number =>
      daemon.log.filter(({ message }) => /others could change what it runs: .*user 1000/.test(String(message))).length
    await installed.prepare()
    await execute('chown', ['-R', '1000', join(dirname(dirname(installed.program)), 'dist.new')])
    installed.swap()
    await until('it refuses by itself', () => refusals() > 0, START_S)
    expect(await maker.make()).toBe('ok')
    expect(daemon.logged('serving')).toBe(1)
    await execute('chown', ['-R', '0', join(dirname(dirname(installed.program)), 'dist')])
    await daemon.reload()
    expect(await maker.make()).toBe('ok')
  },
)

testUpgrade('files that are not whole are not used', '', async ({ installed, daemon, maker }) => {
  await installed.replace(false)
  process.kill(daemon.pid!, 'SIGHUP')
  await until('it complains', () => daemon.log.some(({ level }) => level === 'error'), START_S)
  expect(daemon.log.find(({ level }) => level === 'error')!.message).toMatch(/the files are not all of build/)
  expect(await maker.make()).toBe('ok')
  // No engine can be started now: in the end calls are left to the kernel.
  const { pid, engine } = daemon
  process.kill(engine, 'SIGKILL')
  expect(await maker.make()).toBe('Operation not permitted')
  await installed.replace()
  await until('it goes on as the new program', () => daemon.logged('serving') === 2, START_S)
  expect(await maker.make()).toBe('ok')
  expect(daemon.pid).toBe(pid)
})

test(`${UPGRADES} times files that are replaced under load: every call returns what it must, and is done once`, {
  timeout: 180_000,
}, async () => {
  const installed = new Installed()
  const daemon = await Daemon.start('', installed.program)
  const load = new Load(daemon, 'load', { metadata })
  try {
    await until('the container is known', () => daemon.logged('container') === 1, START_S)
    for (let upgrade = 1; upgrade <= UPGRADES; upgrade++) {
      await sleep(Math.random() * 200)
      await installed.replace()
      await until('the next program serves', () => daemon.logged('serving') === upgrade + 1, START_S)
    }
    const said = await load.end()
    console.log(`${UPGRADES} upgrades`, said)
    expect(said.failures).toEqual({})
    expect(await load.onDisk()).toEqual({ nodes: said.nodes, attributes: said.attributes })
  } finally {
    await load.kill()
    await daemon.close()
    installed.remove()
  }
})

testUpgrade(
  'a program that cannot read the journal refuses, and the old one goes on and says why',
  '',
  async ({ installed, daemon, maker }) => {
    const { engine } = daemon
    installed.rewrite('link/journal.js', 'JOURNAL_LAYOUT = 1', 'JOURNAL_LAYOUT = 2')
    await installed.replace()
    const refused = ({ message }: Readonly<Record<string, unknown>>): boolean =>
      /Cannot take over from a program that stores format 1\.1, not 1\.2/.test(String(message))
    await until('it refuses', () => daemon.log.some(refused), START_S)
    expect(await maker.make()).toBe('ok')
    expect(daemon.engine).toBe(engine)
  },
)
