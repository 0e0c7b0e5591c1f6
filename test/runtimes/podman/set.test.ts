import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Done, execute, until } from '../../support/host.ts'
import { CLI, Machine } from '../../support/machine.ts'
import { Podman, writeProfile } from '../../support/podman.ts'

const NAME = `it-set-${process.pid}`

let machine: Machine
let podman: Podman
const feed = (): string => join(machine.directory, 'feed.sock')
const intercede = (...args: readonly string[]): Promise<Done> =>
  execute(process.execPath, [CLI, args[0]!, '--feed', feed(), ...args.slice(1)])
const one = async (...args: readonly string[]): Promise<Record<string, unknown>> =>
  JSON.parse((await intercede(...args, '--format', 'json')).stdout)[0]
const keyOf = async (key: string): Promise<unknown> =>
  ((await one('inspect', NAME)).keys as Record<string, unknown>)[key]
/** Makes a node in the container, as its root. */
const mknod = async (name: string, device: string): Promise<string> => {
  const { stdout } = await podman.run('exec', NAME, 'sh', '-c', `caller mknod /tmp/${name} 020666 ${device}`)
  const said = JSON.parse(stdout) as { readonly ok?: true; readonly errno?: string }
  return said.ok ? 'ok' : String(said.errno)
}

beforeAll(async () => {
  machine = new Machine()
  await machine.serve()
  podman = await Podman.start(machine)
  const profile = await writeProfile(machine, 'profile.json', [
    ...['-c', 'mknod', '--runtime', 'podman', '--base', '/usr/share/containers/seccomp.json'],
  ])
  const options = ['--userns=auto', '--cap-add=MKNOD,SYS_ADMIN', `--security-opt=seccomp=${profile}`, '--name', NAME]
  // With its standard input a pipe, crun leaves the host's /dev/null alone.
  const usual = ['--detach', '--interactive', '--cgroups=disabled', '--network=none']
  await podman.run('run', ...usual, ...options, 'test', 'sleep', '600')
  await until('the container is served', async () => (await intercede('ps')).stdout.includes(NAME), 60)
})
afterAll(async () => {
  await podman.run('rm', '--force', '--time', '0', NAME)
  await podman.close()
  await machine.close()
})

test('a refused mknod is done after what explain says, without a restart', { timeout: 120_000 }, async () => {
  const { pid } = await one('inspect', NAME)
  expect(await mknod('tun', '10 200')).toBe('EPERM')
  const [row] = JSON.parse((await intercede('explain', NAME, '--format', 'json')).stdout) as Record<string, string>[]
  expect(row).toMatchObject({
    reason: 'deviceNotAllowed',
    wants: { key: 'mknod.devices', value: 'c:10:200' },
    set: expect.stringMatching(/^intercede set --feed \S+\/feed\.sock [0-9a-f]{12} mknod\.devices=c:10:200$/),
    forGood: 'make its seccomp profile with its keys and -c mknod.devices=c:10:200, and the container anew',
    allows: expect.stringMatching(/more character devices that may be made; \/.*\/docs\/guide\/security\.md#mknod/),
  })
  const { stdout } = await intercede('explain', NAME)
  expect(stdout).toMatch(/^ {2}now: {2}intercede set --feed \S+ [0-9a-f]{12} mknod\.devices=c:10:200$/m)
  // Word for word: it names the same daemon.
  const [, ...words] = row!.set!.split(' ')
  const done = await execute(process.execPath, [CLI, ...words])
  expect(done).toMatchObject({ status: 0, stderr: '', stdout: expect.stringContaining('c:10:200 (set)') })
  expect(await mknod('tun', '10 200')).toBe('ok')
  expect((await one('inspect', NAME)).pid).toBe(pid)
  expect(await keyOf('mknod.devices')).toMatchObject({ value: 'c:10:200', origin: 'set' })
  expect((await intercede('inspect', NAME)).stdout).toMatch(
    /^mknod\.devices +c:10:200 +set by root, \d+s ago +intercede set$/m,
  )
  expect((await intercede('events', '--no-follow')).stdout).toMatch(
    / set: root has set .*mknod\.devices: c:10:200 \(set\)/,
  )
  // What is set adds up: explain names the whole list.
  expect(await mknod('fuse', '10 229')).toBe('EPERM')
  const rows = JSON.parse((await intercede('explain', NAME, '--format', 'json')).stdout) as Record<string, string>[]
  const orders = rows.map((each) => each.now)
  expect(orders).toContainEqual(expect.stringContaining('mknod.devices=c:10:200,c:10:229'))
  expect(orders).toContain('nothing: it is allowed by now')
})

test.each([
  {
    args: ['setxattr'],
    says: 'the filter of the container does not trap setxattr, lsetxattr, fsetxattr, setxattrat; make its profile with',
  },
  { args: ['mount', 'mount.allowed=ext4'], says: 'does not trap mount,' },
  {
    args: ['sched_setscheduler', 'sched_setscheduler.min_nice=-5'],
    says: 'sched_setattr, setpriority; make its profile with security.syscalls.intercept.sched_setscheduler and security.syscalls.intercept.sched_setscheduler.min_nice,',
  },
  { args: ['bpf'], says: 'does not trap bpf, fsconfig, and bpf does nothing without bpf.devices or ' },
  { args: ['bpf.devices'], says: 'does not trap bpf, and bpf.devices does nothing without bpf=true;' },
  { args: ['mount', 'mount.fuse=ext4=fuse2fs'], says: 'does not trap mount,' },
])('set $args is refused: $says', async ({ args, says }) => {
  const { status, stdout, stderr } = await intercede('set', NAME, ...args)
  expect({ status, stdout }).toEqual({ status: 125, stdout: '' })
  expect(stderr).toMatch(/^intercede: Cannot set keys of container [0-9a-f]{64}: /)
  expect(stderr).toContain(says)
  expect(await keyOf('mknod.devices')).toMatchObject({ origin: 'set' })
})

test('a restart of the container is back to the profile', { timeout: 120_000 }, async () => {
  expect(await podman.run('restart', '--time', '0', NAME)).toMatchObject({ status: 0 })
  let list = ''
  const isServed = async (): Promise<boolean> => {
    list = (await intercede('ps', '--all')).stdout
    return (await intercede('ps')).stdout.includes(NAME)
  }
  await until('it is served again', isServed, 60).catch((error) => expect.fail(`${error}\n${list}`))
  expect(await keyOf('mknod.devices')).toEqual({ value: '', origin: 'default' })
  expect(await mknod('tun2', '10 200')).toBe('EPERM')
  expect(await mknod('null', '1 3')).toBe('ok')
})
