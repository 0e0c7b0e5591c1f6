import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { type Done, execute, until } from '../../support/host.ts'
import { Images } from '../../support/images.ts'
import { CLI, Machine } from '../../support/machine.ts'
import { withReason } from '../../support/skipped.ts'

const noLoop = missing('losetup', 'mkfs.ext4')
const KEY = 'security.syscalls.intercept'

let machine: Machine
beforeAll(async () => {
  machine = new Machine()
  await machine.serve(
    `profiles:\n  more: { ${KEY}.mknod: true, ${KEY}.mknod.devices: 'c:10:200' }\n  memory: { ${KEY}.sysinfo: true }\n  granted: { ${KEY}.mknod: true, ${KEY}.mknod.devices: granted }\nannotations: { profiles: [more, memory, granted] }\n`,
  )
  const base = '/usr/share/containers/seccomp.json'
  const args = ['profile', '-c', 'mknod', '--runtime', 'podman', '--base', base, '--listener', machine.socket]
  const profile = await execute(process.execPath, [CLI, ...args])
  writeFileSync(join(machine.directory, 'profile.json'), profile.stdout)
  await machine.run('sh', '-c', `tar -C ${machine.rootfs} -c . | podman ${store().join(' ')} import - test`)
})
afterAll(async () => {
  await podman('system', 'reset', '--force')
  await machine.close()
})

/** podman's state is our own; the limits that it sets by itself need controllers that this machine may lack. */
const store = (): readonly string[] => [
  ...['--root', join(machine.directory, 'store'), '--runroot', join(machine.directory, 'run')],
  ...['--cgroup-manager', 'cgroupfs', '--runtime', 'crun'],
]
const podman = (...args: readonly string[]): Promise<Done> => machine.run('podman', ...store(), ...args)
const USUAL = ['--rm', '--cgroups=disabled', '--network=none']
const lines = () => machine.log.filter(({ message }) => message === 'container')
/** Runs a container, and waits for its line in the log. */
async function run(options: readonly string[], script: string): Promise<Done> {
  const before = lines().length
  const profile = `--security-opt=seccomp=${join(machine.directory, 'profile.json')}`
  const done = await podman('run', ...USUAL, profile, ...options, 'test', 'sh', '-c', script)
  await until('it is logged', () => lines().length > before)
  return done
}
let serial = 0
const named = (): string => `it-podman-${process.pid}-${serial++}`
const started = () => lines().at(-1)!

describe('podman run', () => {
  test('with --userns=auto --cap-add MKNOD makes devices that work, over its own profile', async () => {
    const done = await run(
      ['--userns=auto', '--cap-add=MKNOD'],
      'mknod /tmp/n c 1 3 && echo x >/tmp/n && stat -c "%F %t:%T %u" /tmp/n; mknod /tmp/m c 1 1',
    )
    expect(done.stdout).toBe('character special file 1:3 0\n')
    expect(done.stderr).toMatch(/Operation not permitted/)
    expect(started()).toMatchObject({ level: 'info', keys: { [`${KEY}.mknod`]: 'true (metadata)' } })
    await machine.logged(String(started().container), 'deviceNotAllowed')
  })

  test('without --cap-add the log names it', async () => {
    const done = await run(['--userns=auto'], 'mknod /tmp/n c 1 3')
    expect(done).toMatchObject({ status: 1, stderr: expect.stringMatching(/Operation not permitted/) })
    expect(started()).toMatchObject({ level: 'warn', cannot: [expect.stringContaining('--cap-add MKNOD')] })
    expect(await machine.logged(String(started().container), 'lacksCapability')).toMatchObject({ syscall: 'mknodat' })
  })

  test('without --userns the log names it', async () => {
    for (const [options, reason] of [[['--cap-add=MKNOD'], 'hostCapability'] as const, [[], 'hostUserns'] as const]) {
      await run(options, 'mknod /tmp/n c 1 3')
      expect(started()).toMatchObject({ level: 'warn', cannot: [expect.stringContaining('--userns=auto')] })
      await machine.logged(String(started().container), reason)
    }
  })

  test('as a user of the container: refused without the capability, done with it', async () => {
    const without = await run(['--userns=auto', '--user=1000'], 'mknod /dev/shm/n c 1 3')
    expect(without).toMatchObject({ status: 1, stderr: expect.stringMatching(/Operation not permitted/) })
    await machine.logged(String(started().container), 'lacksCapability')
    const mount = `--volume=${machine.shared}:/shared`
    const having = await run(
      ['--userns=auto', '--user=1000', '--cap-add=MKNOD', mount],
      'mknod /shared/n c 1 3; stat -c %u /shared/n; busybox rm /shared/n',
    )
    expect(having).toMatchObject({ stdout: '1000\n', stderr: '' })
  })

  test('annotations choose a profile that the configuration lists, and lower keys, and no more', async () => {
    const choose = ['--annotation', `${KEY}.profile=more`]
    await run(['--userns=auto', '--cap-add=MKNOD', ...choose], 'mknod /tmp/tun c 10 200')
    expect(started()).toMatchObject({ keys: { [`${KEY}.mknod.devices`]: 'c:10:200 (profile more)' } })
    const lower = ['--annotation', `${KEY}.mknod=false`, '--annotation', `${KEY}.sysinfo=true`]
    await run(['--userns=auto', '--cap-add=MKNOD', ...lower], 'mknod /tmp/n c 1 3')
    expect(started()).toMatchObject({
      keys: { [`${KEY}.mknod`]: 'false (annotation)', [`${KEY}.sysinfo`]: 'false (default)' },
      ignored: [{ key: `${KEY}.sysinfo`, value: 'true' }],
    })
    expect(await machine.logged(String(started().container), 'keyOff')).toMatchObject({
      says: `the key ${KEY}.mknod is off for this container`,
      setTo: 'false (annotation)',
    })
  })

  test.skipIf(noLoop)(
    withReason('with mknod.devices=granted makes a node of what --device gives', noLoop),
    async () => {
      using images = new Images()
      const minor = images.device('ext4').replace('/dev/loop', '')
      const given = join(machine.directory, 'given')
      await machine.run('mknod', given, 'b', '7', minor)
      const profile = `--security-opt=seccomp=${join(machine.directory, 'profile.json')}`
      const script = `mknod /disk b 7 ${minor} && stat -c '%F %u' /disk && dd if=/disk bs=1024 skip=1 count=1 | wc -c; mknod /other b 7 250`
      const words = ['--rm', '--network=none', '--pids-limit=0', '--userns=auto', '--cap-add=MKNOD', profile]
      const choose = ['--annotation', `${KEY}.profile=granted`, '--device', `${given}:/dev/given`]
      const done = await podman('run', ...words, ...choose, 'test', 'sh', '-c', script)
      expect(done.stdout).toBe('block special file 0\n1024\n')
      expect(await machine.logged(String(started().container), 'deviceNotGranted')).toMatchObject({
        syscall: 'mknodat',
      })
    },
  )

  test('the log says which key the filter does not trap, as its bundle has it', async () => {
    await run(['--userns=auto', '--cap-add=MKNOD', '--annotation', `${KEY}.profile=memory`], 'sleep 0.3')
    expect(started()).toMatchObject({
      level: 'warn',
      keys: { [`${KEY}.mknod`]: 'true (metadata)', [`${KEY}.sysinfo`]: 'true (profile memory), not trapped' },
      cannot: [expect.stringContaining(`${KEY}.sysinfo: the filter of the container does not trap sysinfo`)],
    })
  })

  test('an annotation that cannot be read lowers its key', async () => {
    const typo = ['--annotation', `${KEY}.mknod=maybe`]
    const done = await run(['--userns=auto', '--cap-add=MKNOD', ...typo], 'mknod /tmp/n c 1 3')
    expect(done.stderr).toMatch(/Operation not permitted/)
    expect(started()).toMatchObject({ lowered: [{ key: `${KEY}.mknod`, value: 'maybe' }] })
  })
})

test('podman exec', async () => {
  const name = named()
  const profile = `--security-opt=seccomp=${join(machine.directory, 'profile.json')}`
  await machine.leave(
    'podman',
    ...store(),
    'run',
    ...USUAL,
    '-d',
    '--name',
    name,
    profile,
    '--userns=auto',
    '--cap-add=MKNOD',
    'test',
    'sleep',
    '1000',
  )
  try {
    const made = await podman(
      'exec',
      name,
      'sh',
      '-c',
      'mknod /tmp/n c 1 5 && stat -c %t:%T /tmp/n; caller --thread mknod /tmp/t 020666 1 3; caller mknodat /tmp n2 020666 1 3',
    )
    expect(made.stdout).toBe('1:5\n{"ok":true}\n{"ok":true}\n')
  } finally {
    await podman('rm', '--force', '--time=0', name)
  }
})
