import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { connectUnix, send, socketpair } from '../../../src/kernel/socket.ts'
import { CLI, Daemon, Maker } from '../../support/daemon.ts'
import { execute, Host, until } from '../../support/host.ts'
import { KEYS, Load, metadata, sleep } from '../../support/restart-world.ts'
import { stateOf } from '../../support/stat.ts'

const RELOADS = Number(process.env.INTERCEDE_RELOADS ?? 25)
/** Of those that need another engine. */
const ENGINES = Math.ceil(RELOADS / 5)
/** Others may work on the machine too. */
const START_S = 60

/** A call may take so much longer during a reload: with another engine it takes a hundred times as long. */
const LONGER = 5
/** In so many milliseconds calls are made without a reload. */
const WINDOW_MS = 50
/** What no engine takes while it runs, so that the next program starts another one. */
const OTHER_ENGINE = 'limits: { records: 1024 }'

/** Of a process that hands over. */
const STATE = Buffer.from(
  JSON.stringify({ fds: ['seccompFd'], pid: process.pid, state: { id: 'c', status: 'creating', bundle: '/' } }),
)

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
    await until('the containers are known', () => daemon.logged('container') === 2, START_S)
    const { pid, engine } = daemon
    const descriptors = (): number => readdirSync(`/proc/${pid}/fd`).length
    await daemon.reload()
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
    await daemon.reload()
    const before = descriptors()
    for (let count = 1; count < ENGINES; count++) {
      await sleep(Math.random() * 200)
      // The journal moves into one of another size.
      daemon.configure(`limits: { records: ${count % 2 === 0 ? 1024 : 16_384} }`)
      await daemon.reload()
      // Others come and go.
      if (count % 2 === 0) expect(await new Maker(daemon).once()).toBe('ok')
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
    await daemon.reload()
    expect(await maker.make()).toBe('ok')
    expect(daemon.pid).toBe(pid)
  } finally {
    maker.end()
    await daemon.close()
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
    const reloaded = daemon.reload()
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
    await daemon.reload()
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
