import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { execute, until } from '../../support/host.ts'
import { Lxc } from '../../support/lxc.ts'
import { BASE, CLI, Machine } from '../../support/machine.ts'

const KEY = 'security.syscalls.intercept'
// LXC forwards the next call as soon as it has the reply to the last one, so more than one is never served.
const CONFIG = `profiles:
  tun: { ${KEY}.mknod: true, ${KEY}.mknod.devices: 'c:10:200' }
limits: { callsPerContainer: 1 }
`

let machine: Machine
const containers: Lxc[] = []
beforeAll(async () => {
  machine = new Machine()
  await execute('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
  await execute('chmod', ['1777', join(machine.rootfs, 'tmp')])
  await machine.serve(CONFIG)
})
afterAll(async () => {
  for (const lxc of containers) await lxc.stop()
  await machine.close()
})

let serial = 0
async function container(keys: readonly string[], cookie?: string): Promise<Lxc> {
  const lxc = await Lxc.make(machine, `it-lxc-${process.pid}-${serial++}`, keys, cookie)
  containers.push(lxc)
  return lxc
}

/** Starts a container and waits for its init. */
async function start(lxc: Lxc): Promise<void> {
  expect(await lxc.start()).toBe(0)
  await until('init is there', () => existsSync(join(machine.rootfs, `tmp/${lxc.name}.ready`)), 10)
}

const linesOf = (lxc: Lxc, message: string) =>
  machine.log.filter((line) => line.message === message && line.container === lxc.name)
const call = (name: string, major = 1, minor = 3): string => `caller mknod /tmp/${name} 020666 ${major} ${minor}`

describe('a container of LXC', () => {
  let lxc: Lxc
  beforeAll(async () => {
    lxc = await container(['mknod'])
    await start(lxc)
  })

  test('has an init that makes a device', async () => {
    const { said } = await lxc.ask(`stat -c '%F %t:%T %u' /tmp/${lxc.name}.device`)
    expect(said).toBe('character special file 1:3 0\n')
    await machine.logged(lxc.name, 'done')
    expect(linesOf(lxc, 'container')).toMatchObject([{ level: 'info', keys: { [`${KEY}.mknod`]: 'true (metadata)' } }])
  })

  test('has processes of lxc-attach that make a device', async () => {
    const script = 'mknod /tmp/m c 1 3 && echo x >/tmp/m && stat -c "%F %t:%T" /tmp/m; busybox rm /tmp/m'
    expect(await lxc.attach([], 'sh', '-c', script)).toMatchObject({ stdout: 'character special file 1:3\n' })
  })

  test('has a log of LXC with an error for each call, whose own answer comes second', async () => {
    const errors = (): number => lxc.log.split('Failed to send seccomp notification').length - 1
    const before = errors()
    expect((await lxc.ask('caller mknod /tmp/m 020666 1 1')).said).toBe('{"errno":"EPERM"}\n')
    await until('it is in the log', () => errors() > before)
  })

  test('is refused as by the kernel, with the reason in the log', async () => {
    const script = 'mknod /tmp/m c 1 1; mknod /tmp/m b 8 0; caller --userns mknod /tmp/m 020666 1 3'
    const { stdout, stderr } = await lxc.attach([], 'sh', '-c', script)
    expect(stderr.match(/Operation not permitted/g)).toHaveLength(2)
    expect(stdout).toBe('{"errno":"EPERM"}\n')
    expect(await machine.logged(lxc.name, 'deviceNotAllowed')).toMatchObject({ says: 'the device 1:1 is not allowed' })
    await machine.logged(lxc.name, 'childUserns')
  })

  test('has users without the capability, which get nothing', async () => {
    const done = await lxc.attach(['--uid', '1000', '--gid', '1000'], 'caller', 'mknod', '/tmp/m', '020666', '1', '3')
    expect(done.stdout).toBe('{"errno":"EPERM"}\n')
    await machine.logged(lxc.name, 'lacksCapability')
  })

  test('has processes attached one after the other, over the one connection', async () => {
    for (let count = 0; count < 12; count++) {
      const done = await lxc.attach([], 'caller', 'mknod', `/tmp/a${count}`, '020666', '1', '3')
      expect(done.stdout).toBe('{"ok":true}\n')
    }
    expect(linesOf(lxc, 'container')).toHaveLength(1)
    await lxc.ask('busybox rm /tmp/a*')
  })

  test('is another one after a restart, served as before', async () => {
    await lxc.stop()
    await until('the end is logged', () => linesOf(lxc, 'container ended').length === 1)
    await start(lxc)
    expect((await lxc.ask(`stat -c %F /tmp/${lxc.name}.device`)).said).toBe('character special file\n')
    expect(linesOf(lxc, 'container')).toHaveLength(2)
  })

  test('has its calls that signals interrupt served in the end', async () => {
    const { stdout } = await lxc.attach([], 'caller', '--signals', '300', 'mknod', '/tmp/s', '020666', '1', '3')
    const { calls, ok, errors, signals } = JSON.parse(stdout)
    console.log(`signals: ${signals} in ${calls} calls, errors ${JSON.stringify(errors)}`)
    expect(signals).toBeGreaterThan(0)
    // Without WAIT_KILLABLE_RECV a rest of the interrupted calls finds its own work: see docs/guide/signals.md.
    expect(ok + (errors.EEXIST ?? 0)).toBe(calls)
    expect(errors.EEXIST ?? 0).toBeLessThanOrEqual(calls / 50)
    expect((await lxc.ask(call('after-signals'))).said).toBe('{"ok":true}\n')
    await lxc.attach([], 'sh', '-c', 'busybox rm -f /tmp/s.* /tmp/after-signals')
  })
})

test('two containers, each with its own policy: by keys, and by a profile of the configuration', async () => {
  const [plain, tun] = [await container(['mknod']), await container(['mknod'], 'profile=tun')]
  await start(plain)
  await start(tun)
  const rounds = (lxc: Lxc): Promise<{ readonly said: string }> =>
    lxc.ask(
      `for i in $(busybox seq 100); do ${call(`${lxc.name}.null`)}; busybox rm /tmp/${lxc.name}.null; ${call(`${lxc.name}.tun`, 10, 200)}; busybox rm -f /tmp/${lxc.name}.tun; done`,
    )
  const [ofPlain, ofTun] = await Promise.all([rounds(plain), rounds(tun)])
  expect(ofPlain.said).toBe('{"ok":true}\n{"errno":"EPERM"}\n'.repeat(100))
  expect(ofTun.said).toBe('{"ok":true}\n'.repeat(200))
  expect(await machine.logged(plain.name, 'deviceNotAllowed')).toMatchObject({
    says: 'the device 10:200 is not allowed',
  })
  expect(linesOf(tun, 'container')).toMatchObject([
    { keys: { [`${KEY}.mknod.devices`]: 'c:10:200 (profile tun)', [`${KEY}.mknod`]: 'true (profile tun)' } },
  ])
  expect(linesOf(tun, 'call').map(({ verdict }) => verdict)).not.toContain('left')
})

test('the log says which key the policy of LXC does not trap', async () => {
  const lxc = await container(['mknod'], `${KEY}.mknod=true;${KEY}.sysinfo=true`)
  await start(lxc)
  await until('the container is logged', () => linesOf(lxc, 'container').length === 1)
  expect(linesOf(lxc, 'container')).toMatchObject([
    {
      level: 'warn',
      keys: { [`${KEY}.mknod`]: 'true (metadata)', [`${KEY}.sysinfo`]: 'true (metadata), not trapped' },
      cannot: [expect.stringContaining('does not trap sysinfo')],
    },
  ])
})

test('a cookie of LXC that is not understood serves nothing, and is said', async () => {
  const lxc = await container(['mknod'], 'profile=nonesuch')
  await start(lxc)
  expect((await lxc.ask(call(`${lxc.name}.device`))).said).toBe('{"errno":"EPERM"}\n')
  expect(machine.log).toContainEqual(
    expect.objectContaining({ message: expect.stringMatching(/policy of container .*unknown profile "nonesuch"/) }),
  )
})

describe('a key that was taken from a container', () => {
  const intercede = (command: string, ...words: readonly string[]) =>
    execute(process.execPath, [CLI, command, ...words, '--control', join(machine.directory, 'control.sock')])
  test('stays taken over reloads that need another program of the daemon, whether it calls in between or not', async () => {
    const lxc = await container(['mknod'])
    await start(lxc)
    expect((await lxc.ask(call('s1'))).said).toBe('{"ok":true}\n')
    expect(await intercede('set', lxc.name, 'mknod=false')).toMatchObject({ status: 0 })
    expect((await lxc.ask(call('s2'))).said).toBe('{"errno":"EPERM"}\n')
    for (const calls of [20, 21, 22]) {
      writeFileSync(join(machine.directory, 'config.yaml'), CONFIG.replace('limits: {', `limits: { calls: ${calls},`))
      expect(await intercede('reload')).toMatchObject({ status: 0 })
      if (calls === 21) continue
      expect((await lxc.ask(call(`s${calls}`))).said).toBe('{"errno":"EPERM"}\n')
      expect((await lxc.attach([], 'caller', 'mknod', '/tmp/a', '020666', '1', '3')).stdout).toBe('{"errno":"EPERM"}\n')
    }
  })
})

describe('a daemon that stops', () => {
  test('leaves ENOSYS for calls, at once; the next call after its restart is served', async () => {
    const lxc = await container(['mknod'])
    await start(lxc)
    expect((await lxc.ask(call('r1'))).said).toBe('{"ok":true}\n')
    await machine.stop()
    for (const name of ['r2', 'r3']) {
      const { said, took } = await lxc.ask(call(name))
      expect(said).toBe('{"errno":"ENOSYS"}\n')
      expect(took).toBeLessThan(2000)
    }
    // LXC takes no listener while its proxy is away.
    await expect(lxc.attach([], 'true')).rejects.toThrow(/lost its listener/)
    await machine.serve(CONFIG)
    expect((await lxc.ask(call('r4'))).said).toBe('{"ok":true}\n')
    expect(await lxc.attach([], 'caller', 'mknod', '/tmp/r5', '020666', '1', '3')).toMatchObject({
      stdout: '{"ok":true}\n',
    })
    await lxc.ask('busybox rm /tmp/r?')
  })

  test('between two calls is not noticed by the container, and until the next one it is shown as not seen', async () => {
    const lxc = await container(['mknod'])
    await start(lxc)
    await machine.stop()
    const kept = `${CONFIG}history: { path: ${join(machine.directory, 'history')} }\n`
    await machine.serve(kept)
    const seen = async (...words: readonly string[]): Promise<string> =>
      (await execute(process.execPath, [CLI, ...words, '--feed', join(machine.directory, 'feed.sock')])).stdout
    expect((await lxc.ask(call('k0'))).said).toBe('{"ok":true}\n')
    expect(await seen('status', '--format', '{served} {unknown}')).toBe('1 0\n')
    await machine.stop('SIGKILL')
    await machine.serve(kept)
    expect(await seen('status', '--format', '{served} {unknown}')).toBe('0 1\n')
    expect(await seen('status')).toMatch(/^containers .*, 1 of LXC not seen since the daemon began, /m)
    expect(await seen('explain', lxc.name)).toContain(
      `${lxc.name} has not asked this daemon yet: it will with the next`,
    )
    expect((await lxc.ask(call('k1'))).said).toBe('{"ok":true}\n')
    await lxc.ask('busybox rm /tmp/k?')
  })

  test('keeps containers from starting', async () => {
    await machine.stop()
    const lxc = await container(['mknod'])
    await lxc.start()
    expect(await lxc.settledState()).toBe('STOPPED')
    await machine.serve(CONFIG)
    await start(lxc)
  })
})
