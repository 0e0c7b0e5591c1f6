import { spawn } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { askDaemon } from '../../../src/cli/ask-daemon.ts'
import type { ReloadAnswer } from '../../../src/keeper/control/protocol.ts'
import type { KeeperEvent } from '../../../src/keeper/process/events.ts'
import type { Fd } from '../../../src/kernel/fd.ts'
import { textFile } from '../../../src/kernel/shared-memory.ts'
import { accept, connectUnix, listenUnix, send } from '../../../src/kernel/socket.ts'
import { HISTORY_FILES } from '../../../src/processes/installation.ts'
import { CLI, Daemon, Maker } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { type Done, execute, Host, until } from '../../support/host.ts'
import { Hostile, withoutFuse } from '../../support/hostile.ts'
import { Monitor } from '../../support/monitor.ts'
import { withReason } from '../../support/skipped.ts'
import { SLOWNESS } from '../../support/slowness.ts'
import { rootOnly } from '../../support/user.ts'

/** Others may work on the machine too. */
const START_S = 60
const OFF = ['--metadata', 'security.syscalls.intercept.mknod=false']
const REFUSED = 'Operation not permitted'

type Keys = Readonly<Record<'mknod', { readonly value: string }>>

const scratch = mkdtempSync(join(tmpdir(), 'intercede-control-'))
let daemon: Daemon
let maker: Maker
const feed = (): string => join(daemon.directory, 'feed.sock')
const control = (): string => join(daemon.directory, 'control.sock')
const intercede = (...args: readonly string[]): Promise<Done> => execute(process.execPath, [CLI, ...args])
const read = async (command: string, ...args: readonly string[]): Promise<Record<string, unknown>[]> => {
  const { stdout } = await intercede(command, '--feed', feed(), '--format', 'json', ...args)
  return stdout
    .trim()
    .split('\n')
    .flatMap((line) => JSON.parse(line))
}
const set = (...args: readonly string[]): Promise<Done> => intercede('set', '--feed', feed(), ...args)
const reload = (...args: readonly string[]): Promise<Done> => intercede('reload', '--control', control(), ...args)
const idOf = async (): Promise<string> => String((await read('ps'))[0]!.id)
const keyOf = async (key: string): Promise<unknown> =>
  ((await read('inspect', await idOf()))[0]!.keys as Record<string, unknown>)[key]

beforeAll(async () => {
  daemon = await Daemon.start()
  maker = new Maker(daemon, OFF)
  expect(await maker.make()).toBe(REFUSED)
})
afterAll(async () => {
  maker.end()
  await daemon.close()
  rmSync(scratch, { recursive: true })
})

describe.sequential('set', () => {
  test('observe mode leaves every call to the kernel, says what would have been done, and ends at once', async () => {
    const id = await idOf()
    await set(id, 'mknod', 'mode=observe')
    expect(await maker.make()).toBe(REFUSED)
    expect(await read('ps')).toMatchObject([{ state: 'observed', done: 0 }])
    expect(await read('status')).toMatchObject([{ served: 0, observed: 1 }])
    const kinds = (await read('explain', id)) as { reason: string; verdict: string }[]
    expect(kinds.find(({ reason }) => reason === 'observedAct')).toMatchObject({
      ...{ verdict: 'left', count: 1, says: expect.stringContaining('whether it succeeds is not known') },
    })
    await set(id, 'mode=enforce')
    expect(await maker.make()).toBe('ok')
    expect(await read('ps')).toMatchObject([{ state: 'served', done: 1 }])
    expect((await set(id, '--unset', 'mode', '--unset', 'mknod')).status).toBe(0)
    expect(await maker.make()).toBe(REFUSED)
  })

  test('changes what a running container may have, and everything says so', async () => {
    const id = await idOf()
    const { status, stdout, stderr } = await set(id, 'mknod')
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.not.stringContaining('Cannot set') })
    expect(stdout).toMatch(
      /^filtered\S+\n {2}security\.syscalls\.intercept\.mknod: true \(set\).*, instead of false \(metadata\)\n$/,
    )
    expect(await maker.make()).toBe('ok')
    const changes = daemon.logged('container changed')
    expect((await set(id, 'mknod')).stdout).toMatch(/That was so already/)
    expect([daemon.logged('container changed'), daemon.logged('nothing new was set')]).toEqual([changes, 1])
    expect(await keyOf('mknod')).toEqual({
      value: 'true',
      origin: 'set',
      instead: { value: 'false', origin: 'metadata' },
    })
    const [about] = await read('inspect', id)
    expect(about!.set).toEqual([{ key: 'mknod', value: 'true', by: 'root', time: expect.stringMatching(/Z$/) }])
    expect((await intercede('inspect', '--feed', feed(), id)).stdout).toMatch(/^mknod +true +set by root, \d+s ago +/m)
    const events = await read('events', '--no-follow')
    expect(events.find(({ type }) => type === 'set')).toMatchObject({
      container: id,
      message: expect.stringMatching(/^root has set .*mknod: true/),
    })
    expect(daemon.log.find(({ message }) => message === 'container changed')).toMatchObject({
      ...{ level: 'notice', container: id, by: 'root' },
      changed: { 'security.syscalls.intercept.mknod': { was: { value: 'false', origin: 'metadata' } } },
    })
  })

  test('holds over the end of an engine, and over a reload, which answers', { timeout: 60_000 }, async () => {
    process.kill(daemon.engine, 'SIGKILL')
    await until('another engine serves', () => daemon.logged('the engine serves') > 0, START_S)
    expect(await maker.make()).toBe('ok')
    const { pid } = daemon
    expect(await reload()).toEqual({ status: 0, stderr: '', stdout: '0 of 1 container changed\n' })
    expect(daemon.pid).toBe(pid)
    expect(await maker.make()).toBe('ok')
    expect(await keyOf('mknod')).toEqual({
      value: 'true',
      origin: 'set',
      instead: { value: 'false', origin: 'metadata' },
    })
    const events = await read('events', '--no-follow')
    expect(events.find(({ type }) => type === 'reloaded')).toMatchObject({
      message: 'the daemon has read its configuration again',
    })
  })

  test('ends with --unset, and with the container', async () => {
    const { status, stdout } = await set(await idOf(), '--unset', 'mknod')
    expect({ status, stdout }).toEqual({
      status: 0,
      stdout: expect.stringMatching(/mknod: false \(metadata\), instead of true \(set\)\n$/),
    })
    expect(await set(await idOf(), '--unset', 'mknod')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('That was so already'),
    })
    expect(await maker.make()).toBe(REFUSED)
    const other = new Maker(daemon, OFF)
    expect(await other.make()).toBe(REFUSED)
    const { id } = (await read('ps')).find(({ calls }) => calls === 1)!
    await set(String(id), 'mknod')
    expect(await other.once()).toBe('ok')
    const again = new Maker(daemon, OFF)
    expect(await again.once()).toBe(REFUSED)
  })
})

test('annotations that are ignored keep nobody from setting keys, and are not ignored for ever', async () => {
  const given = ['profile=nonesuch', 'sysinfo=true'].flatMap((word) => [
    ...['--annotation', `security.syscalls.intercept.${word}`],
  ])
  const annotated = new Maker(daemon, [...OFF, '--id', 'annotated', ...given])
  const ignored = async (): Promise<unknown> =>
    ((await read('inspect', 'annotated'))[0]!.ignored as { key: string }[]).map(({ key }) => key.split('.').at(-1))
  try {
    expect(await annotated.make()).toBe(REFUSED)
    expect(await ignored()).toEqual(['profile', 'sysinfo'])
    const barred = new Maker(daemon, ['--id', 'barred', '--metadata', 'profile=nonesuch'])
    expect(await barred.make()).toBe(REFUSED)
    const { stdout: explained } = await intercede('explain', '--feed', feed(), 'barred')
    expect(explained).toMatch(
      /^barred: all calls are left to the kernel, because its policy cannot be used: Cannot read policy: unknown profile "nonesuch"/,
    )
    // That would be refused, and so would anything.
    expect(explained).not.toContain('now:')
    barred.end()
    const [registered] = await read('events', 'barred', '--no-follow')
    expect(registered!.message).toMatch(
      /^all calls of the container are left to the kernel: its policy cannot be used: .*"nonesuch"/,
    )
    expect(await set('annotated', 'mknod')).toMatchObject({ status: 0 })
    expect(await annotated.make()).toBe('ok')
    daemon.configure('default: { sysinfo: true }')
    await reload()
    expect(await ignored()).toEqual(['profile'])
  } finally {
    annotated.end()
    daemon.configure('')
    await reload()
  }
})

describe.sequential('reload', () => {
  test('--dry-run says what would change, and changes nothing', async () => {
    daemon.configure('ceiling: { mknod: false }')
    await set(await idOf(), 'mknod')
    const said = JSON.parse((await reload('--dry-run', '--format', 'json')).stdout)
    expect(said).toMatchObject({
      containers: 1,
      changed: [{ keys: { 'security.syscalls.intercept.mknod': { was: { value: 'true', origin: 'set' } } } }],
    })
    expect(said).toMatchObject({ daemon: [], anotherEngine: false })
    expect(await maker.make()).toBe('ok')
    daemon.configure('ceiling: { mknod: false }\nlimits: { calls: 64 }\nhistory: { size: 2m }')
    expect((await reload('--dry-run')).stdout).toMatch(
      /^of the daemon itself, limits, history would change; calls wait while another engine starts\n1 of 1 container would change$/m,
    )
    daemon.configure('ceiling: { mknod: false }')
  })

  test('a reload lowers to a ceiling what a container has, also what was set', { timeout: 60_000 }, async () => {
    const { status, stdout } = await reload()
    expect({ status, stdout }).toEqual({
      status: 0,
      stdout: expect.stringContaining('mknod: false (set asks for true, the ceiling is false)'),
    })
    expect(await maker.make()).toBe(REFUSED)
    expect(await keyOf('mknod')).toMatchObject({ value: 'false', origin: 'set', ceiling: 'false', asked: 'true' })
    const refused = await set(await idOf(), 'mknod')
    expect(refused).toMatchObject({ status: 125, stdout: '' })
    expect(refused.stderr).toMatch(/^intercede: Cannot set keys of container .*mknod=true is above its ceiling "false"/)
    await set(await idOf(), '--unset', 'mknod')
    const events = await read('events', await idOf(), '--no-follow', '--filter', 'type=resumed')
    expect(events.at(-1)!.message).toMatch(/^the container continues with .*mknod: false \(set asks for true/)
  })

  test('of a configuration that is wrong changes nothing, and says why', async () => {
    daemon.configure('celing: {}')
    for (const words of [[], ['--dry-run']]) {
      const { status, stdout, stderr } = await reload(...words)
      expect({ status, stdout }).toEqual({ status: 125, stdout: '' })
      expect(stderr).toMatch(
        /^intercede: Cannot .*unknown key "celing" at line 1, column 1 \(did you mean "ceiling"\?\)/,
      )
    }
    const [said] = (await read('events', '--no-follow')).filter(({ type }) => type === 'notReloaded')
    expect(said!.message).toMatch(/^Cannot reload, because the configuration is wrong.*unknown key "celing" at line 1/)
    const configured = async (): Promise<unknown> =>
      /^configured .*$/m.exec((await intercede('status', '--feed', feed())).stdout)?.[0]
    expect(await configured()).toMatch(/; a reload failed \d+s ago: Cannot reload, .*unknown key "celing" at line 1/)
    daemon.configure('')
    expect((await reload()).status).toBe(0)
    await until('it is forgotten', async () => !/reload failed/.test(String(await configured())))
  })
})

test('status says since when which engine and configuration serve', async () => {
  await until('the containers of other tests are gone', async () => (await read('status'))[0]!.served === 1)
  const { status, stdout } = await intercede('status', '--feed', feed())
  expect(status).toBe(0)
  expect(stdout).toMatch(
    new RegExp(
      `^daemon {6}pid ${daemon.pid}, since .*\nprogram {5}\\d.* \\(build [0-9a-f]{16}\\)\nconfigured {2}since .*\nengine {6}pid ${daemon.engine}, since .*\nhistory {5}not kept\ncontainers {2}1 served, 0 left to the kernel, those of earlier daemons not known, 1 listener\n$`,
    ),
  )
  const [said] = await read('status')
  expect(said).toMatchObject({ pid: daemon.pid, engine: daemon.engine, engines: 2, served: 1 })
  // It was reloaded, and its first engine was ended.
  expect(Date.parse(String(said!.reloaded))).toBeGreaterThan(Date.parse(String(said!.since)) + 1000)
})

const noFuse = withoutFuse()
test.skipIf(noFuse)(
  withReason('a call in flight ends under the policy that it began with', noFuse),
  {
    timeout: 60_000,
  },
  async () => {
    const hostile = new Hostile(daemon.directory)
    // The file system that it serves takes its time to say that there is no such name.
    const server = ['--overlay', hostile.overlay, '--delay', `${5_000_000 * SLOWNESS}`]
    const call = (name: string): string => `${fixture('caller')} mknod ${join(hostile.merged, name)} 020666 1 3`
    const command = `echo started; ${call('first')}; ${call('second')}; sleep 100`
    const metadata = ['--metadata', 'security.syscalls.intercept.mknod=true']
    try {
      await hostile.start(daemon.socket, server, ['sh', '-c', command], metadata)
      const busy = async (): Promise<Record<string, unknown> | undefined> =>
        (await read('ps')).find((row) => Number(row.inFlight) > 0)
      await until('its call is in flight', async () => (await busy()) !== undefined)
      const id = String((await busy())!.id)
      expect(hostile.returned).toEqual([])
      expect((await set(id, 'mknod=false')).status).toBe(0)
      expect(hostile.returned).toEqual([])
      await until('both calls have returned', () => hostile.returned.length === 2, 40)
      const calls = (await read('events', id, '--no-follow')).filter(({ syscall }) =>
        String(syscall).startsWith('mknod'),
      )
      // Of a file system of the container's own no node is made, which is found out after the key was seen to be on.
      // A record is written after the answer, so that of the second call may come first.
      expect(calls.map(({ reason }) => reason).sort()).toEqual(['containerSuperblock', 'keyOff'])
    } finally {
      await hostile.end()
    }
  },
)

test('a container of LXC keeps what was set over a reload, and has what that changes at once', {
  timeout: 60_000,
}, async () => {
  const monitor = await Monitor.start({ directory: daemon.directory, lxcSocket: join(daemon.directory, 'lxc.sock') })
  const call = async (): Promise<string> => {
    const count = monitor.returned.length + 1
    monitor.ask('mknod', join(daemon.directory, `lxc${count}`), '020666', '1', '3')
    await monitor.serve('security.syscalls.intercept.mknod=false')
    return monitor.returns(count)
  }
  try {
    expect(await call()).toBe('EPERM')
    const { id } = (await read('ps')).find(({ runtime }) => runtime === 'lxc')!
    expect((await set(String(id), 'mknod')).status).toBe(0)
    expect(await call()).toBe('ok')
    expect((await reload()).status).toBe(0)
    expect(await call()).toBe('ok')
    // Its monitor loses the connection with each call that hangs, which the container decides.
    const ends = daemon.logged('container ended')
    monitor.reconnect()
    await until('its connection has ended', () => daemon.logged('container ended') > ends)
    expect(await call()).toBe('ok')
    // Other programs of the daemon, to the first of which it has no connection.
    for (const calls of [33, 34]) {
      daemon.configure(`limits: { calls: ${calls} }`)
      expect((await reload()).status).toBe(0)
    }
    monitor.reconnect()
    expect(await call()).toBe('ok')
    daemon.configure('limits: { calls: 34 }\nceiling: { mknod: false }')
    expect((await reload()).status).toBe(0)
    expect(await call()).toBe('EPERM')
    expect(daemon.log.map(({ message }) => message)).not.toContainEqual(expect.stringContaining('Cannot take over'))
    const gone = daemon.logged('container ended')
    await monitor.end()
    await until('it has ended', () => daemon.logged('container ended') > gone)
    expect(await set(String(id), 'mknod')).toMatchObject({
      ...{ status: 1, stderr: expect.stringContaining('or was started again and has made no trapped call since') },
    })
  } finally {
    daemon.configure('')
    await reload()
    await monitor.end()
  }
})

test('a container of LXC that is left to the kernel stays so over a reload', { timeout: 60_000 }, async () => {
  const where = { directory: daemon.directory, lxcSocket: join(daemon.directory, 'lxc.sock') }
  // In the pid namespace of the host nothing proves which user namespace is its first one.
  const monitor = await Monitor.start(where, ['--userns', '200000:65536'])
  const call = async (): Promise<string> => {
    const count = monitor.returned.length + 1
    monitor.ask('mknod', join(daemon.directory, `unclear${count}`), '020666', '1', '3')
    await monitor.serve()
    return monitor.returns(count)
  }
  try {
    expect(await call()).toBe('EPERM')
    expect((await reload()).status).toBe(0)
    expect(await call()).toBe('EPERM')
    const { id } = (await read('ps')).find(({ runtime }) => runtime === 'lxc')!
    const [about] = await read('inspect', String(id))
    expect(about).toMatchObject({ barred: { code: 'unclearUserns' } })
  } finally {
    await monitor.end()
  }
})

/** Configurations by chance, always the same: with and without the profile that a container names, wrong ones too. */
function* configurations(count: number): Generator<string> {
  let state = 1
  const draw = (below: number): number => {
    state = (state * 48_271) % 2_147_483_647
    return state % below
  }
  const one = (words: readonly string[]): string => words[draw(words.length)]!
  const keys = ['mknod: true', 'mknod: false', 'setxattr: true', 'mknod.devices: c:10:200', 'mount.nodev: false']
  for (let each = 0; each < count; each++) {
    const some = `{ ${[...new Set([one(keys), one(keys.slice(2))])].join(', ')} }`
    yield one([`default: ${some}`, `default: { sysinfo: true }`, 'default: {}', 'defautl: {}'])
      .concat(one(['', `\nprofiles: { vpn: ${some} }`, '\nprofiles: { vpn: {} }']))
      .concat(one(['', '', '\nceiling: { mknod: false }', '\nceiling: { mknod.devices: c:1:3 }']))
      .concat(one(['', '\nmetrics: { container: true }', '\nlog: { level: debug }', '\nlimits: { connections: 9 }']))
  }
}

function kindOf(said: ReloadAnswer | string): 'same' | 'other' | 'wrong' | 'lost' {
  if (typeof said !== 'string') return said.changed.length > 0 ? 'other' : 'same'
  return said.startsWith('Cannot keep the policy of ') ? 'lost' : 'wrong'
}

test('a dry run says what the reload does then, of 60 configurations, and calls are judged so', {
  timeout: 120_000,
}, async () => {
  const all = [[], ['--metadata', 'profile=vpn'], OFF].map((metadata) => new Maker(daemon, metadata))
  const ask = (dry: boolean, force = true): ReloadAnswer | string => {
    try {
      return askDaemon<ReloadAnswer>(control(), { type: 'reload', dry, force })
    } catch (error) {
      return (error as Error).message.replace(/^Cannot reload: |; the daemon continues unchanged$/g, '')
    }
  }
  try {
    const { engine } = daemon
    for (const one of all) await one.make()
    let kinds = { same: 0, other: 0, wrong: 0, lost: 0 }
    let force = false
    for (const text of configurations(60)) {
      daemon.configure(text)
      force = !force
      const would = ask(true, force)
      expect(ask(false, force), text).toEqual(would)
      const kind = kindOf(would)
      kinds = { ...kinds, [kind]: kinds[kind] + 1 }
      const none = { changed: [], daemon: [], anotherEngine: false }
      expect(ask(true, force), text).toEqual(typeof would === 'string' ? would : { ...would, ...none })
      if (kind !== 'other' || kinds.other % 8 !== 0) continue
      const rows = await read('inspect', ...(await read('ps')).map(({ id }) => String(id)))
      const on = rows.filter(({ keys, barred }) => !barred && (keys as Keys).mknod.value === 'true').length
      const made = await Promise.all([maker, ...all].map((each) => each.make()))
      expect(
        made.filter((said) => said === 'ok'),
        text,
      ).toHaveLength(on)
    }
    expect(Math.min(...Object.values(kinds))).toBeGreaterThan(0)
    expect(daemon.engine).toBe(engine)
  } finally {
    for (const one of all) one.end()
    daemon.configure('')
    ask(false)
  }
})

describe('a profile that a running container has', () => {
  const BUILD = 'profiles: { build: { mknod: true } }'
  const TYPED = 'profiles: { buidl: { mknod: true } }'
  const LOST = /1 running container, filtered\S+: .*unknown profile "build" .*did you mean "buidl"\?/
  let built: Maker
  beforeAll(async () => {
    daemon.configure(BUILD)
    await reload()
    built = new Maker(daemon, ['--metadata', 'profile=build'])
    expect(await built.make()).toBe('ok')
    daemon.configure(TYPED)
  })
  afterAll(async () => {
    built.end()
    daemon.configure('')
    await reload('--force')
  })

  test.each([[], ['--dry-run']])('is not taken from it by reload %s', async (...words) => {
    const { status, stderr } = await reload(...words)
    expect({ status, stderr }).toEqual({ status: 125, stderr: expect.stringMatching(LOST) })
    expect(await built.make()).toBe('ok')
  })

  test('nor by SIGHUP, which says so in the log', async () => {
    const said = (): number => daemon.log.filter(({ message }) => LOST.test(String(message))).length
    const before = said()
    process.kill(daemon.pid!, 'SIGHUP')
    await until('it says so', () => said() > before)
    expect(await built.make()).toBe('ok')
  })

  test('nor by a reload that needs another engine', async () => {
    daemon.configure(`${TYPED}\nlimits: { records: 8192 }`)
    const { engine } = daemon
    expect((await reload()).stderr).toMatch(LOST)
    expect(daemon.engine).toBe(engine)
    daemon.configure(TYPED)
  })

  test('and is missed by serve --check-config', async () => {
    const file = join(scratch, 'typed.yaml')
    writeFileSync(file, TYPED)
    const { status, stderr } = await intercede('serve', '--check-config', '--config', file, '--feed-socket', feed())
    expect({ status, stderr }).toEqual({
      ...{
        status: 1,
        stderr: expect.stringMatching(/has no profile "build".*buidl.*; they are of the daemon at ".*", which/),
      },
    })
    // It may be meant for another daemon.
    writeFileSync(file, BUILD)
    const same = await intercede('serve', '--check-config', '--config', file, '--feed-socket', feed())
    expect(same.stdout).toMatch(/^# for \d+ running containers? of the daemon at ".*feed.sock", which reads ".*"$/m)
    writeFileSync(file, TYPED)
  })

  test('and by doctor, which looks at the configuration of the daemon that is named', async () => {
    const { stdout } = await intercede('doctor', '--feed', feed())
    expect(stdout).toMatch(/^ +NEEDED +the configuration: Cannot use configuration ".*": it has no profile "build"/m)
  })

  test.skipIf(rootOnly())(withReason('which a user who may not ask the daemon is told', rootOnly()), async () => {
    const words = ['serve', '--check-config', '--config', join(scratch, 'typed.yaml'), '--feed-socket', feed()]
    chmodSync(scratch, 0o755)
    const asUser = ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, CLI, ...words]
    expect(await execute('setpriv', asUser)).toMatchObject({
      ...{
        status: 0,
        stderr: expect.stringMatching(/only root and members .*; so nobody knows whether its containers/),
      },
    })
  })

  test('is taken by reload --force, which says why; and comes back; no order counts as a refused hand-over', async () => {
    const metric = async (pattern: RegExp): Promise<unknown> =>
      (await intercede('metrics', '--feed', feed())).stdout.match(pattern)
    const refused = async (): Promise<unknown> => ({
      counted: await metric(/^.*_registrations_.*result="refused".* [1-9]\d*$/gm),
      listed: (await read('ps', '--all')).filter(({ message }) => message !== undefined),
    })
    const done = async (): Promise<string> => `${await metric(/^.*_reloads_total.*"done".*$/m)}`
    const [before, reloads] = [await refused(), await done()]
    expect((await reload()).status).toBe(125)
    // Cancelled at a moment that varies.
    await execute('timeout', ['-s', 'KILL', '0.3', process.execPath, CLI, 'reload', '--control', control()])
    connectUnix(control(), 'packet')[Symbol.dispose]()
    const { status, stdout, stderr } = await reload('--force')
    expect({ status, stdout, stderr }).toEqual({
      ...{ status: 0, stdout: expect.stringMatching(/mknod: false .*, instead of true/) },
      stderr: expect.stringMatching(/Cannot use the policy of container filtered\S+: .*unknown profile "build"/),
    })
    expect(await built.make()).toBe(REFUSED)
    // The next one takes nothing from it, and says it all the same.
    expect(await reload()).toEqual({
      ...{ status: 0, stdout: expect.stringMatching(/^0 of \d+ containers? changed\n$/) },
      stderr: expect.stringMatching(/Cannot use the policy of container filtered\S+: .*unknown profile "build"/),
    })
    const file = join(scratch, 'typed.yaml')
    const check = await intercede('serve', '--check-config', '--config', file, '--feed-socket', feed())
    expect(check.stderr).toMatch(/It still has no profile "build" for filtered.*, whose calls are left to the kernel/)
    const why =
      /^filtered.*: all calls are left to the kernel, because its policy cannot be used: .*unknown profile "build"/m
    expect((await intercede('explain', '--feed', feed())).stdout).toMatch(why)
    await until('the reload is counted', async () => (await done()) !== reloads)
    expect(await refused()).toEqual(before)
    daemon.configure(BUILD)
    expect((await reload()).status).toBe(0)
    expect(await built.make()).toBe('ok')
  })
})

test('status names the daemon that it woke, before there is an engine', async () => {
  const woken = new Daemon()
  try {
    const socket = join(woken.directory, 'feed.sock')
    await until('it listens', () => existsSync(socket))
    const { stdout, stderr } = await intercede('status', '--feed', socket)
    expect(stderr).toBe('')
    expect(stdout).toMatch(/^daemon {6}pid [1-9]\d*, since 2.*\nprogram {5}\d.*\nconfigured {2}since 2/)
    expect(stdout).toMatch(/^engine {6}(none now: the daemon is starting, and calls wait until it serves|pid \d+.*)$/m)
  } finally {
    await woken.close()
  }
})

test('a reload that comes while the daemon starts waits for that', async () => {
  const woken = new Daemon()
  try {
    const socket = join(woken.directory, 'control.sock')
    await until('it listens', () => existsSync(socket))
    expect(await intercede('reload', '--control', socket)).toEqual({
      ...{ status: 0, stderr: '', stdout: '0 of 0 containers changed\n' },
    })
  } finally {
    await woken.close()
  }
})

/** Ends one engine after the other, before it serves, until the next one has to wait. */
async function endEngines(host: Host): Promise<void> {
  while (host.events.every((event) => event.type !== 'engineEnded' || event.pause === 0)) {
    if (host.maybeEnginePid !== undefined) process.kill(host.maybeEnginePid, 'SIGSEGV')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

test('status ends with 1 while no engine serves', { timeout: 60_000 }, async () => {
  const host = await Host.start(undefined, { restartPause: SLOWNESS * 30_000 })
  host.mayLoseEngine = true
  const status = async (): Promise<number> => (await intercede('status', '--feed', host.feedSocket)).status
  try {
    await until('it serves', async () => (await status()) === 0)
    await endEngines(host)
    await until('it says so', async () => (await status()) === 1)
  } finally {
    host.close()
  }
})

test('status and ps say that calls are left to the kernel, and when the next engine is tried', {
  timeout: 60_000,
}, async () => {
  const host = await Host.start(undefined, { restartPause: SLOWNESS * 12_000 })
  host.mayLoseEngine = true
  const ask = (...args: readonly string[]): Promise<Done> => intercede(...args, '--feed', host.feedSocket)
  const stays = new Maker(host, [])
  try {
    expect(await stays.make()).toBe('ok')
    expect((await ask('ps', '--format', '{state}')).stdout).toBe('served\n')
    await endEngines(host)
    const [before, served] = [host.events.length, host.restarts]
    const none = /calls are left to the kernel, because engines keep failing; the next one is tried in [\d hms]+$/m
    const { stdout } = await ask('status')
    expect(stdout).toMatch(new RegExp(`^engine {6}none now, after \\d+ others that ended: ${none.source}`, 'm'))
    expect(stdout).toMatch(
      /^containers {2}0 served, 1 left to the kernel, those of earlier daemons not known, 1 listener$/m,
    )
    const [said] = JSON.parse(`[${(await ask('status', '--format', 'json')).stdout}]`)
    expect(said).toMatchObject({ engine: 0, nextEngine: expect.stringMatching(/Z$/) })
    expect(said.engineSince).toBeUndefined()
    const list = await ask('ps', '--format', '{state}')
    expect(list.stdout).toBe('left\n')
    expect(list.stderr).toMatch(none)
    const id = (await ask('ps', '--format', '{id}')).stdout.trim()
    expect((await ask('inspect', id)).stdout).toMatch(/^left to the kernel +intercede's engines keep failing/m)
    expect(host.status).toMatch(/^1 container, 1 listener; engines keep failing: calls are left .* is tried at 2\S+Z$/)
    // In the pause there is no engine that could hang.
    await until('the next one serves', () => host.restarts > served, 30)
    process.kill(host.enginePid, 'SIGKILL')
    const ended = (): KeeperEvent | undefined => host.events.slice(before).find(({ type }) => type === 'engineEnded')
    await until('it has ended', () => ended() !== undefined)
    expect(ended()).toMatchObject({ how: expect.stringMatching(/^was ended by SIGKILL/), cause: 'killed' })
  } finally {
    stays.end()
    host.close()
  }
})

test('status names no engine that does not serve yet', { timeout: 60_000 }, async () => {
  const host = await Host.start()
  host.mayLoseEngine = true
  const status = (...args: readonly string[]): Promise<Done> => intercede('status', '--feed', host.feedSocket, ...args)
  const before = host.enginePid
  let next: number | undefined
  try {
    process.kill(before, 'SIGKILL')
    for (; next === undefined || next === before; next = host.maybeEnginePid)
      await new Promise((resolve) => setTimeout(resolve, 1))
    process.kill(next, 'SIGSTOP')
    expect(host.restarts).toBe(0)
    // The daemon looks once a second.
    await new Promise((resolve) => setTimeout(resolve, 1500))
    const { status: code, stdout } = await status()
    expect(stdout).toMatch(/^engine {6}none now, after 1 other that ended: calls wait for the next one$/m)
    expect(code).toBe(1)
    const continued = Date.now()
    process.kill(next, 'SIGCONT')
    await until('it serves', () => host.restarts === 1)
    const said = JSON.parse((await status('--format', 'json')).stdout)
    expect(said).toMatchObject({ engine: next })
    expect(Date.parse(said.engineSince)).toBeGreaterThanOrEqual(continued)
  } finally {
    if (next !== undefined && host.restarts === 0) process.kill(next, 'SIGKILL')
    host.close()
  }
})

describe('bad input is one sentence with a remedy', () => {
  let other: Maker
  beforeAll(async () => {
    other = new Maker(daemon, OFF)
    await other.make()
  })
  afterAll(() => other.end())

  test.each([
    [['nobody', 'mknod'], 1, 'no container has that id or name; "intercede ps --all --feed '],
    [['filtered', 'mknod'], 125, 'begin with it; give more of its id'],
    [['FIRST', 'mknodd'], 2, 'unknown key "security.syscalls.intercept.mknodd" (did you mean'],
    [['FIRST', 'mknod=perhaps'], 2, 'mknod is "perhaps": not a boolean, allowed is true'],
    [['FIRST'], 2, 'give KEY=VALUE, or --unset KEY'],
    [
      ['FIRST', 'mount', 'mount.fuse=ext4=fuse2fs'],
      125,
      'is not known how the runtime of the container starts a program',
    ],
    [
      ['FIRST', 'mount', 'mount.fuse=ext4=fuse2fs', 'mount.allowed=ext4'],
      125,
      'the file system "ext4" is in both security.syscalls.intercept.mount.allowed',
    ],
    [
      ['FIRST', 'mknod', '--control', '/nowhere/control.sock'],
      125,
      'there is no such socket; start the service, or "intercede serve"',
    ],
    [['FIRST', 'mknod', '--control', 'FEED'], 125, 'the daemon has ended, or takes no orders there'],
  ])('set %j ends with %i', async (words, status, says) => {
    const id = await idOf()
    const done = await set(...words.map((word) => (word === 'FIRST' ? id : word === 'FEED' ? feed() : word)))
    expect(done).toMatchObject({ status, stdout: '' })
    expect(done.stderr).toMatch(/^intercede: Cannot .*\n$/)
    expect(done.stderr).toContain(says)
  })

  test('a container is looked for at the daemon whose control.sock is named', async () => {
    const { status, stderr } = await intercede('set', '--control', control(), 'nobody', 'mknod')
    expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining(`--feed ${feed()}" lists`) })
  })

  test('root without the capabilities of an administrator may not connect', async () => {
    const path = join(scratch, 'closed.sock')
    using _socket = listenUnix(path, 'packet')
    chmodSync(path, 0o600)
    chownSync(path, 1, 1)
    const words = ['--bounding-set=-all', process.execPath, CLI, 'reload', '--control', path]
    expect(await execute('setpriv', words)).toEqual({
      ...{ status: 125, stdout: '' },
      stderr: `intercede: Cannot give orders at "${path}": only root of the host may; use sudo\n`,
    })
  })

  test('a daemon of another version', async () => {
    const path = join(scratch, 'other.sock')
    using socket = listenUnix(path, 'packet')
    const done = intercede('reload', '--control', path)
    let connection: Fd | undefined
    await until('it connects', () => {
      connection = accept(socket)
      return connection !== undefined
    })
    using accepted = connection!
    using file = textFile('answer', '{"version":3,"answer":{}}')
    send(accepted, Buffer.from('answer'), [file])
    expect(await done).toMatchObject({
      status: 125,
      stderr: expect.stringContaining('the daemon has another version (3, not 2); use its own intercede'),
    })
  })

  test('of an engine that is stopped, set says so soon, and what it has set holds once that continues', {
    timeout: 60_000,
  }, async () => {
    const { engine } = daemon
    const id = await idOf()
    process.kill(engine, 'SIGSTOP')
    try {
      const start = Date.now()
      const { status, stdout, stderr } = await set(id, 'mknod')
      expect(Date.now() - start).toBeLessThan(SLOWNESS * 2500)
      expect({ status, stdout }).toEqual({
        status: 125,
        stdout: expect.stringContaining('intercept.mknod: true (set)'),
      })
      expect(stderr).toMatch(/^intercede: The daemon has taken the order, but its engine does not answer: /)
    } finally {
      process.kill(engine, 'SIGCONT')
    }
    await until('the engine uses it', async () => (await maker.make()) === 'ok')
    await set(await idOf(), '--unset', 'mknod')
  })
})

/** Each command that reads the daemon, with a container where it takes one. */
const READING = [
  'ps',
  'top --once',
  'status',
  'metrics',
  'explain',
  'explain a',
  'inspect a',
  'events a',
  'events -f',
  'set a mknod',
]

describe('a daemon that is stopped', () => {
  let stopped: Daemon
  beforeAll(async () => {
    stopped = await Daemon.start()
    process.kill(stopped.pid!, 'SIGSTOP')
  })
  afterAll(async () => {
    process.kill(stopped.pid!, 'SIGCONT')
    await stopped.close()
  })
  const SILENT = /the daemon does not answer: it hangs, is stopped, or starts/

  test.concurrent.each(READING)('%s says so', async (command) => {
    const done = await intercede(...command.split(' '), '--feed', join(stopped.directory, 'feed.sock'))
    expect(done).toEqual({ status: 125, stdout: '', stderr: expect.stringMatching(SILENT) })
  })

  test.concurrent.each(['reload', 'reload --dry-run'])('%s says so, and gives no order', async (command) => {
    const done = await intercede(...command.split(' '), '--control', join(stopped.directory, 'control.sock'))
    expect(done).toEqual({ status: 125, stdout: '', stderr: expect.stringMatching(SILENT) })
  })

  test.concurrent('doctor says what to do about it, and fails', async () => {
    const done = await intercede('doctor', '--feed', join(stopped.directory, 'feed.sock'))
    expect(done).toMatchObject({
      ...{
        status: 1,
        stdout: expect.stringMatching(/does not answer[^\n]*\n[^\n]*\n +-> .*SIGCONT; otherwise restart it$/m),
      },
    })
    expect(done.stdout).toMatch(/, but the running daemon does not answer\n$/)
  })

  test.concurrent('serve --check-config says that it does not know the running containers', async () => {
    const done = await intercede('serve', '--check-config', '--feed-socket', join(stopped.directory, 'feed.sock'))
    expect(done).toMatchObject({ status: 0, stderr: expect.stringMatching(SILENT) })
  })

  test.concurrent.each(['events --no-follow --since 1h', 'events a --no-follow --since 1h', 'test --from-records a'])(
    '%s asks it once, and says that all it shows is history',
    async (command) => {
      const directory = mkdtempSync(join(scratch, 'silent-'))
      const time = new Date().toISOString()
      const line = { time, type: 'container', serial: 1, ended: time, id: 'a' }
      writeFileSync(join(directory, HISTORY_FILES.now), `${JSON.stringify(line)}\n`)
      const path = join(directory, 'feed.sock')
      using listening = listenUnix(path, 'packet')
      const done = await intercede(...command.split(' '), '--history', directory, '--feed', path)
      expect(done).toMatchObject({ stdout: '', stderr: expect.stringMatching(SILENT) })
      expect(done.status).not.toBe(0)
      expect(done.stderr).toMatch(/; only history in ".*" (and what "intercede run" has started )?is shown\n/)
      accept(listening)![Symbol.dispose]()
      expect(accept(listening)).toBeUndefined()
    },
  )

  test.concurrent('reload says that it waits, where the daemon takes the order and does not answer', async () => {
    const path = join(mkdtempSync(join(scratch, 'mute-')), 'control.sock')
    using _ = listenUnix(path, 'packet')
    const done = await execute('timeout', ['-s', 'KILL', '4', process.execPath, CLI, 'reload', '--control', path])
    expect(done.stderr).toBe(
      'intercede: The daemon has not answered yet: it answers once its engine does, or another one serves; waiting\n',
    )
  })

  test('says of orders whose sender has given up that it did nothing, when it continues', async () => {
    await intercede('reload', '--control', join(stopped.directory, 'control.sock'))
    process.kill(stopped.pid!, 'SIGCONT')
    const GIVEN_UP = 'Cannot take an order: whoever gave it has ended meanwhile, so nothing was done'
    await until('it has looked at them', () => stopped.log.some(({ message }) => message === GIVEN_UP))
    expect(stopped.log.some(({ message }) => message === 'reload ordered')).toBe(false)
  })
})

test.each([
  ['SIGSTOP', /the daemon does not answer/],
  ['SIGKILL', /Cannot .*daemon/],
] as const)('top ends, and says why, when its daemon gets %s', { timeout: 60_000 }, async (signal, says) => {
  const its = await Daemon.start()
  const { pid } = its
  try {
    const ended = intercede('top', '--interval', '0.5', '--json', '--feed', join(its.directory, 'feed.sock'))
    await new Promise((resolve) => setTimeout(resolve, SLOWNESS * 2000))
    process.kill(pid!, signal)
    const { status, stdout, stderr } = await ended
    expect(stdout).toMatch(/^\[/)
    expect({ status, stderr }).toEqual({ status: 125, stderr: expect.stringMatching(says) })
  } finally {
    if (signal === 'SIGSTOP') process.kill(pid!, 'SIGCONT')
    await its.close()
  }
})

test('events says whether its daemon does not answer, serves again, or is gone', { timeout: 90_000 }, async () => {
  const its = await Daemon.start()
  // Then there is something to read.
  await its.reload()
  const { pid } = its
  const words = [CLI, 'events', '--format', 'json', '--feed', join(its.directory, 'feed.sock')]
  const reader = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  reader.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const messages = (): readonly unknown[] =>
    said
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as { readonly type: string; readonly message?: string })
      .flatMap(({ type, message }) => (type === 'daemon' ? [message] : []))
  const all = [
    ['SIGSTOP', 'the daemon does not answer: it hangs, is stopped, or starts; waiting for it'],
    ['SIGCONT', 'the daemon serves again'],
    ['SIGKILL', 'there is no daemon; waiting for the next one'],
  ] as const
  try {
    await until('it reads', () => said !== '', 20)
    for (const [index, [signal, message]] of all.entries()) {
      process.kill(pid!, signal)
      await until(`it speaks of ${signal}`, () => messages().length > index, 20)
      expect(messages()[index]).toBe(message)
    }
  } finally {
    reader.kill()
    await its.close()
  }
})

test('the socket is of root alone', () => {
  expect(statSync(control()).mode & 0o777).toBe(0o600)
  expect(readdirSync(daemon.directory)).toContain('control.sock')
})
