import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CLI, Daemon, Maker } from '../../support/daemon.ts'
import { type Done, execute, until } from '../../support/host.ts'

/** Others may work on the machine too. */
const START_S = 60
const OFF = ['--metadata', 'security.syscalls.intercept.mknod=false']
const REFUSED = 'Operation not permitted'

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
})

describe.sequential('set', () => {
  test('changes what a running container may have, and everything says so', async () => {
    const id = await idOf()
    const { status, stdout, stderr } = await set(id, 'mknod')
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.not.stringContaining('Cannot set') })
    expect(stdout).toMatch(/^security\.syscalls\.intercept\.mknod: true \(set\).*, instead of false \(metadata\)\n$/)
    expect(await maker.make()).toBe('ok')
    expect(await keyOf('mknod')).toEqual({ value: 'true', origin: 'set' })
    const [about] = await read('inspect', id)
    expect(about!.set).toEqual([{ key: 'mknod', value: 'true', by: 'root', time: expect.any(Number) }])
    expect((await intercede('inspect', '--feed', feed(), id)).stdout).toMatch(/^mknod +true +set by root, \d+s ago +/m)
    const events = await read('events', '--no-follow')
    expect(events.find(({ type }) => type === 'set')).toMatchObject({
      container: id,
      message: expect.stringMatching(/^root has set .*mknod: true/),
    })
    expect(daemon.log.find(({ message }) => message === 'container changed')).toMatchObject({
      ...{ level: 'notice', container: id, by: 'root' },
      changed: { 'security.syscalls.intercept.mknod': { was: 'false (metadata)' } },
    })
  })

  test('holds over the end of an engine, and over a reload, which answers', { timeout: 60_000 }, async () => {
    process.kill(daemon.engine, 'SIGKILL')
    await until('another engine serves', () => daemon.logged('the engine serves') > 0, START_S)
    expect(await maker.make()).toBe('ok')
    const { pid } = daemon
    expect(await reload()).toEqual({ status: 0, stderr: '', stdout: '1 container, of which 0 has changed\n' })
    expect(daemon.pid).toBe(pid)
    expect(await maker.make()).toBe('ok')
    expect(await keyOf('mknod')).toEqual({ value: 'true', origin: 'set' })
  })

  test('ends with --unset, and with the container', async () => {
    const { status, stdout } = await set(await idOf(), '--unset', 'mknod')
    expect({ status, stdout }).toEqual({
      status: 0,
      stdout: expect.stringMatching(/mknod: false \(metadata\), instead of true \(set\)\n$/),
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

describe.sequential('reload', () => {
  test('--dry-run says what would change, and changes nothing', async () => {
    daemon.configure('ceiling: { mknod: false }')
    await set(await idOf(), 'mknod')
    const said = JSON.parse((await reload('--dry-run', '--format', 'json')).stdout)
    expect(said).toMatchObject({
      containers: 1,
      changed: [{ keys: { 'security.syscalls.intercept.mknod': { was: 'true (set)' } } }],
    })
    expect(await maker.make()).toBe('ok')
  })

  test('a reload lowers to a ceiling what a container has, also what was set', { timeout: 60_000 }, async () => {
    const { status, stdout } = await reload()
    expect({ status, stdout }).toEqual({
      status: 0,
      stdout: expect.stringContaining('mknod: false (set asks for true, the ceiling is false)'),
    })
    expect(await maker.make()).toBe(REFUSED)
    expect(await keyOf('mknod')).toEqual({ value: 'false', origin: 'set', ceiling: 'false', asked: 'true' })
    const refused = await set(await idOf(), 'mknod')
    expect(refused).toMatchObject({ status: 125, stdout: '' })
    expect(refused.stderr).toMatch(/^intercede: Cannot set keys of container .*mknod=true is above its ceiling "false"/)
    await set(await idOf(), '--unset', 'mknod')
  })

  test('of a configuration that is wrong changes nothing, and says why', async () => {
    daemon.configure('celing: {}')
    for (const words of [[], ['--dry-run']]) {
      const { status, stdout, stderr } = await reload(...words)
      expect({ status, stdout }).toEqual({ status: 125, stdout: '' })
      expect(stderr).toMatch(/^intercede: Cannot .*unknown key "celing" at line 1 \(did you mean "ceiling"\?\)/)
    }
    daemon.configure('')
    expect((await reload()).status).toBe(0)
  })
})

test('the socket is of root alone', () => {
  expect(statSync(control()).mode & 0o777).toBe(0o600)
  expect(readdirSync(daemon.directory)).toContain('control.sock')
})
