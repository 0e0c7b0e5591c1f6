import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { connectUnix, send, socketpair } from '../../../src/kernel/socket.ts'
import { CLI, Daemon, Maker } from '../../support/daemon.ts'
import { execute, Host, until } from '../../support/host.ts'
import { Installed } from '../../support/installed.ts'
import { Load, sleep } from '../../support/restart-world.ts'
import { stateOf } from '../../support/stat.ts'

const RELOADS = Number(process.env.INTERCEDE_RELOADS ?? 50)
/** Of those that need another engine. */
const ENGINES = Math.ceil(RELOADS / 5)
/** Others may work on the machine too. */
const START_S = 60

const UPGRADES = 5

/** Everything that the load makes calls of. */
const KEYS = {
  mknod: true,
  setxattr: true,
  'setxattr.read': true,
  sched_setscheduler: true,
  'sched_setscheduler.max_priority': 10,
  sysinfo: true,
  mount: true,
  'mount.allowed': 'hugetlbfs',
  bpf: true,
  'bpf.devices': true,
}
/** A call may take so much longer during a reload: with another engine it takes a hundred times as long. */
const LONGER = 5
/** In so many milliseconds calls are made without a reload. */
const WINDOW_MS = 50
/** What no engine takes while it runs, so that the next program starts another one. */
const OTHER_ENGINE = 'limits: { records: 1024 }'

const metadata = Object.entries(KEYS)
  .map(([key, value]) => `security.syscalls.intercept.${key}=${value}`)
  .join('\n')

/** Of a process that hands over. */
const STATE = Buffer.from(
  JSON.stringify({ fds: ['seccompFd'], pid: process.pid, state: { id: 'c', status: 'creating', bundle: '/' } }),
)

const reload = async (daemon: Daemon): Promise<void> => {
  const before = daemon.logged('serving')
  process.kill(daemon.pid!, 'SIGHUP')
  await until('it serves again', () => daemon.logged('serving') > before, START_S)
}

/** A configuration whose profile has what the load needs; every second one lets others make nodes. */
const configuration = (count: number): string => {
  const load = Object.entries(KEYS).map(([key, value]) => `    ${key}: ${value}`)
  const more = `    mknod.devices: c:10:${count % 2 === 0 ? 200 : 229}\n  other: { mknod: ${count % 2 === 0} }`
  const log = `log: { level: ${count % 2 === 0 ? 'info' : 'debug'} }`
  return `profiles:\n  load:\n${load.join('\n')}\n${more}\n${log}\nlimits: { listenersPerContainer: ${100 + count} }\n`
}

/** How long the slowest of the calls took that were made until it is over. */
async function slowest(maker: Maker, isOver: () => boolean): Promise<number> {
  let longest = 0
  do {
    const start = performance.now()
    await maker.make()
    longest = Math.max(longest, performance.now() - start)
  } while (!isOver())
  return longest
}

const median = (all: readonly number[]): number => all.toSorted((one, other) => one - other)[all.length >> 1]!

test(`${RELOADS} times another configuration under load: the engine is the same, no call waits for it, and all is judged by it at once`, {
  timeout: 60_000 + RELOADS * 1_000,
}, async () => {
  const daemon = await Daemon.start(configuration(0))
  const load = new Load(daemon, 'load', { metadata: 'profile=load' })
  const maker = new Maker(daemon, ['--metadata', 'profile=other'])
  try {
    expect(await maker.make()).toBe('ok')
    const { pid, engine } = daemon
    const descriptors = (): number => readdirSync(`/proc/${pid}/fd`).length
    await reload(daemon)
    const before = descriptors()
    const [usual, during]: [number[], number[]] = [[], []]
    for (let count = 1; count <= RELOADS; count++) {
      const start = performance.now()
      usual.push(await slowest(maker, () => performance.now() - start > WINDOW_MS))
      daemon.configure(configuration(count))
      const served = daemon.logged('serving')
      process.kill(pid!, 'SIGHUP')
      during.push(await slowest(maker, () => daemon.logged('serving') > served))
      expect(await maker.make()).toBe(count % 2 === 0 ? 'ok' : 'Operation not permitted')
    }
    const said = await load.end()
    const figures = [usual, during].map((all) => [median(all), Math.max(...all)].map(Math.round))
    console.log(`${RELOADS} reloads: slowest call without, and during one (median, longest), in ms:`, figures, said)
    expect(said.failures).toEqual({})
    expect(await load.onDisk()).toEqual({ nodes: said.nodes, attributes: said.attributes })
    expect(median(during)).toBeLessThan(LONGER * median(usual))
    expect([daemon.pid, daemon.engine]).toEqual([pid, engine])
    expect(daemon.logged('container goes on')).toBe(2 * (RELOADS + 1))
    const changed = daemon.log.filter(({ message, changed }) => message === 'container goes on' && changed)
    expect(changed).toHaveLength(2 * RELOADS)
    expect(daemon.log.filter(({ level }) => level === 'error' || level === 'warn')).toEqual([])
    await until('what has ended is let go', () => descriptors() <= before, START_S)
  } finally {
    maker.end()
    await load.kill()
    await daemon.close()
  }
})

test(`${ENGINES} times SIGHUP for another engine under load: the process is the same, every call returns what it must, and is done once`, {
  timeout: 60_000 + ENGINES * 10_000,
}, async () => {
  const daemon = await Daemon.start()
  const load = new Load(daemon, 'load', { metadata })
  const maker = new Maker(daemon)
  try {
    await until('the containers are known', () => daemon.logged('container') === 2, START_S)
    const { pid } = daemon
    const descriptors = (): number => readdirSync(`/proc/${pid}/fd`).length
    await reload(daemon)
    const before = descriptors()
    for (let count = 1; count < ENGINES; count++) {
      await sleep(Math.random() * 200)
      // The journal moves into one of another size.
      daemon.configure(`limits: { records: ${count % 2 === 0 ? 1024 : 16_384} }`)
      await reload(daemon)
      // Others come and go.
      if (count % 5 === 0) expect(await new Maker(daemon).once()).toBe('ok')
    }
    const said = await load.end()
    console.log(`${ENGINES} engines`, said)
    const notOnlyInfo = daemon.log.filter(
      (line) => line.level !== 'info' || /EAGAIN|EIO|fsconfig.*continue/.test(JSON.stringify(line)),
    )
    expect(said.failures, JSON.stringify(notOnlyInfo)).toEqual({})
    expect(said.busy).toBeLessThanOrEqual(1 + ENGINES / 10)
    expect(said.acts).toBeGreaterThan(said.calls / 3)
    expect(await load.onDisk()).toEqual({ nodes: said.nodes, attributes: said.attributes })
    expect(await maker.make()).toBe('ok')
    await until('what has ended is let go', () => descriptors() < before, START_S)
    expect(daemon.pid).toBe(pid)
    // With 1,024 records, a machine that is busy may make calls faster than the engine that starts can log them.
    const complaints = daemon.log.filter(
      ({ level, message }) => (level === 'error' || level === 'warn') && !/^records were lost/.test(String(message)),
    )
    expect(complaints, JSON.stringify(complaints)).toEqual([])
    // An engine of the program before may have ended too late for that one to take note of it: the next look does.
    const children = async (): Promise<string> => (await execute('pgrep', ['-P', String(pid)])).stdout.trim()
    await until('the engine is the only child', async () => (await children()) === String(daemon.engine), START_S)
  } finally {
    maker.end()
    await load.kill()
    await daemon.close()
  }
})

test('a configuration that is invalid changes nothing; a valid one holds for the containers that are there', {
  timeout: 120_000,
}, async () => {
  const daemon = await Daemon.start()
  const maker = new Maker(daemon, ['--metadata', 'profile=one'])
  try {
    // A profile that is not there.
    expect(await maker.make()).toBe('Operation not permitted')
    const { pid, engine } = daemon
    daemon.configure('defautl: {}')
    process.kill(pid!, 'SIGHUP')
    await until('it complains', () => daemon.log.some(({ level }) => level === 'error'), START_S)
    expect(daemon.log.find(({ level }) => level === 'error')!.message).toMatch(
      /^Cannot reload, because the configuration is wrong; the old one stays: .*unknown key "defautl" at line 1/,
    )
    expect(await maker.make()).toBe('Operation not permitted')
    expect(daemon.engine).toBe(engine)
    daemon.configure('profiles: { one: { security.syscalls.intercept.mknod: true } }')
    await reload(daemon)
    expect(await maker.make()).toBe('ok')
    expect(daemon.pid).toBe(pid)
  } finally {
    maker.end()
    await daemon.close()
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

test('a runtime that has connected is heard afterwards; one that is in the middle of its state, before', {
  timeout: 120_000,
}, async () => {
  const daemon = await Daemon.start()
  const refused = (): number => daemon.log.filter(({ message }) => /no seccomp listener/.test(String(message))).length
  try {
    const [none, other] = socketpair()
    using silent = connectUnix(daemon.socket)
    using midway = connectUnix(daemon.socket)
    send(midway, STATE.subarray(0, 10), [none])
    await sleep(200)
    daemon.configure(OTHER_ENGINE)
    const reloaded = reload(daemon)
    await sleep(1000)
    expect(daemon.logged('serving')).toBe(1)
    send(midway, STATE.subarray(10))
    await reloaded
    expect(refused()).toBe(1)
    send(silent, STATE, [none])
    await until('the silent one is heard', () => refused() === 2, START_S)
    for (const fd of [none, other]) fd[Symbol.dispose]()
  } finally {
    await daemon.close()
  }
})

for (const { what, end } of [
  // The keeper may have seen the new files first: then the engine has ended already.
  { what: 'the engine ends', end: (engine: number) => void execute('kill', ['-KILL', String(engine)]) },
  { what: 'nothing ends', end: () => {} },
])
  test(`files that were replaced by another build: the service goes on as that when ${what}`, {
    timeout: 120_000,
  }, async () => {
    const installed = new Installed()
    const daemon = await Daemon.start('', installed.program)
    const maker = new Maker(daemon)
    try {
      expect(await maker.make()).toBe('ok')
      const { pid, engine } = daemon
      await installed.prepare()
      installed.swap()
      end(engine)
      while (daemon.logged('serving') < 2) expect(await maker.make()).toBe('ok')
      expect(await maker.make()).toBe('ok')
      expect(daemon.pid).toBe(pid)
      expect(daemon.logged('container goes on')).toBe(1)
      expect(daemon.log.filter(({ message }) => /^Cannot/.test(String(message)))).toEqual([])
    } finally {
      maker.end()
      await daemon.close()
      installed.remove()
    }
  })

test('files that were replaced wait for SIGHUP where reload is manual, and no engine is started from them', {
  timeout: 120_000,
}, async () => {
  const installed = new Installed()
  const daemon = await Daemon.start('reload: manual', installed.program)
  const maker = new Maker(daemon)
  const waits = (text: RegExp): number => daemon.log.filter(({ message }) => text.test(String(message))).length
  try {
    expect(await maker.make()).toBe('ok')
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
    await reload(daemon)
    expect(await maker.make()).toBe('ok')
    expect(daemon.pid).toBe(pid)
  } finally {
    maker.end()
    await daemon.close()
    installed.remove()
  }
})

test('files that were replaced by files of another user are not used, whoever asks', { timeout: 120_000 }, async () => {
  const installed = new Installed()
  const daemon = await Daemon.start('', installed.program)
  const maker = new Maker(daemon)
  const refusals = (): number =>
    daemon.log.filter(({ message }) => /others could change what it runs: .*user 1000/.test(String(message))).length
  try {
    await installed.prepare()
    await execute('chown', ['-R', '1000', join(dirname(dirname(installed.program)), 'dist.new')])
    installed.swap()
    await until('it refuses by itself', () => refusals() > 0, START_S)
    expect(await maker.make()).toBe('ok')
    expect(daemon.logged('serving')).toBe(1)
    await execute('chown', ['-R', '0', join(dirname(dirname(installed.program)), 'dist')])
    await reload(daemon)
    expect(await maker.make()).toBe('ok')
  } finally {
    maker.end()
    await daemon.close()
    installed.remove()
  }
})

test('files that are not whole are not used', { timeout: 120_000 }, async () => {
  const installed = new Installed()
  const daemon = await Daemon.start('', installed.program)
  const maker = new Maker(daemon)
  try {
    expect(await maker.make()).toBe('ok')
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
  } finally {
    maker.end()
    await daemon.close()
    installed.remove()
  }
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

test('a program that cannot read the journal refuses, and the old one goes on and says why', {
  timeout: 120_000,
}, async () => {
  const installed = new Installed()
  const daemon = await Daemon.start('', installed.program)
  const maker = new Maker(daemon)
  try {
    expect(await maker.make()).toBe('ok')
    const { engine } = daemon
    installed.rewrite('link/journal.js', 'JOURNAL_LAYOUT = 1', 'JOURNAL_LAYOUT = 2')
    await installed.replace()
    const refused = ({ message }: Readonly<Record<string, unknown>>): boolean =>
      /Cannot take over from a program that stores format 1\.1, not 1\.2/.test(String(message))
    await until('it refuses', () => daemon.log.some(refused), START_S)
    expect(await maker.make()).toBe('ok')
    expect(daemon.engine).toBe(engine)
  } finally {
    maker.end()
    await daemon.close()
    installed.remove()
  }
})

test('a keeper that could not become another program after all serves the calls that waited', async () => {
  const host = await Host.start()
  const maker = new Maker(host)
  try {
    expect(await maker.make()).toBe('ok')
    const goOn = await host.standStill()
    expect(host.maybeEnginePid).toBeUndefined()
    const [late, early] = [maker.make(), new Maker(host).once()]
    await sleep(200)
    goOn()
    expect(await Promise.all([late, early])).toEqual(['ok', 'ok'])
    expect(host.events.filter(({ type }) => type === 'engineEnded')).toEqual([])
  } finally {
    maker.end()
    host.close()
  }
})

test('the sockets of a program that has reloaded are gone when it ends', { timeout: 120_000 }, async () => {
  const daemon = await Daemon.start()
  try {
    daemon.configure(OTHER_ENGINE)
    await reload(daemon)
    using _ = connectUnix(join(daemon.directory, 'lxc.sock'), 'packet')
    process.kill(daemon.pid!, 'SIGTERM')
    await until('it has ended', () => daemon.pid === undefined, START_S)
    expect(readdirSync(daemon.directory)).toEqual([])
    expect(() => connectUnix(join(daemon.directory, 'oci.sock'))).toThrow(/ENOENT/)
  } finally {
    await daemon.close()
  }
})

test('SIGTERM while it starts: nothing of it is left', { timeout: 120_000 }, async () => {
  for (const after of ['its socket', 'its engine']) {
    const daemon = new Daemon()
    const engines = async (): Promise<string> =>
      (await execute('pgrep', ['-P', String(daemon.pid), '-f', 'engine'])).stdout
    const isThere = async () => existsSync(daemon.socket) && (after === 'its socket' || (await engines()) !== '')
    await until(`${after} is there`, isThere, START_S)
    process.kill(daemon.pid!, 'SIGTERM')
    await until('it has ended', () => daemon.pid === undefined, START_S)
    expect(readdirSync(daemon.directory)).toEqual([])
    await daemon.close()
  }
})

test('a child of the program that the process was before leaves no zombie', { timeout: 120_000 }, async () => {
  const command = 'sleep 1 & echo $!; exec "$0" "$@"'
  const directory = mkdtempSync(join(tmpdir(), 'intercede-children-'))
  const serve = [process.execPath, CLI, 'serve', '--socket', join(directory, 'oci.sock')]
  const daemon = spawn('sh', ['-c', command, ...serve], { stdio: ['ignore', 'pipe', 'ignore'] })
  try {
    const [child] = (await once(daemon.stdout, 'data')) as [Buffer]
    expect(stateOf(Number(child))).not.toBe('')
    await until('nothing is left of it', () => stateOf(Number(child)) === '', START_S)
    expect(daemon.exitCode).toBeNull()
  } finally {
    daemon.kill('SIGTERM')
    await once(daemon, 'exit')
    rmSync(directory, { recursive: true, force: true })
  }
})
