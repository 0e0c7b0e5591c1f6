import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Containerd } from '../../support/containerd.ts'
import { missing } from '../../support/fixtures.ts'
import { FUSE_KEYS, installFuse, lacksFuse, MOUNT, MOUNTED } from '../../support/fuse-image.ts'
import { execute } from '../../support/host.ts'
import { CLI, Machine } from '../../support/machine.ts'
import { withReason } from '../../support/skipped.ts'

const KEY = 'security.syscalls.intercept'
const absent = missing('containerd', 'ctr', 'runc', 'busybox') ?? lacksFuse()

let machine: Machine
let containerd: Containerd
let flags: readonly string[]

beforeAll(async () => {
  machine = new Machine()
  if (absent) return
  await machine.serve(
    `profiles: { more: { mknod: true, mknod.devices: 'c:10:200' } }\nannotations: { profiles: [more] }\n`,
  )
  await installFuse(machine)
  containerd = await Containerd.start(machine)
  flags = await flagsFor('mknod', ['-c', 'mknod'])
})
afterAll(async () => {
  await containerd?.close()
  await machine.close()
})

/** What `intercede flags containerd` prints. */
async function flagsFor(name: string, options: readonly string[]): Promise<readonly string[]> {
  const files = ['--write', machine.directory, '--name', name, '--listener', machine.socket]
  const { stdout } = await execute(process.execPath, [CLI, 'flags', 'containerd', ...files, ...options])
  return stdout.trim().split('\n')
}

let serial = 0
const named = (): string => `it-containerd-${process.pid}-${serial++}`
const started = (id: string) =>
  machine.log.find(({ message, container }) => message === 'container' && container === id)

describe.skipIf(absent)(withReason('containerd', absent), () => {
  test('ctr run with what "intercede flags" prints makes a device that works', async () => {
    const id = named()
    const script = 'mknod /tmp/n c 1 3 && echo x >/tmp/n && stat -c "%F %t:%T %u" /tmp/n; mknod /tmp/m c 1 1'
    const done = await containerd.run(['--rm', ...flags], id, 'sh', '-c', script)
    expect(done).toMatchObject({ stdout: 'character special file 1:3 0\n' })
    expect(done.stderr).toContain('mknod: /tmp/m: Operation not permitted')
    expect(started(id)).toMatchObject({ level: 'info', keys: { [`${KEY}.mknod`]: 'true (metadata)' } })
    await machine.logged(id, 'deviceNotAllowed')
  })

  test('annotations choose a listed profile', async () => {
    const id = named()
    const more = await flagsFor('more', ['-c', 'mknod', '-a', 'profile=more'])
    const done = await containerd.run(
      ['--rm', ...more],
      id,
      'sh',
      '-c',
      'mknod /tmp/t c 10 200 && stat -c %t:%T /tmp/t',
    )
    expect(done).toMatchObject({ stdout: 'a:c8\n', stderr: '' })
    expect(started(id)).toMatchObject({ keys: { [`${KEY}.mknod.devices`]: 'c:10:200 (profile more)' } })
  })

  test('a file system is mounted by a FUSE program', async () => {
    const fuse = await flagsFor('fuse', FUSE_KEYS)
    const done = await containerd.run(['--rm', ...fuse], named(), 'sh', '-c', MOUNT)
    expect(done).toMatchObject({ stdout: MOUNTED.map((line) => `${line}\n`).join(''), stderr: '' })
  })

  test('without a map of ids everything is left to the kernel, said loudly', async () => {
    const id = named()
    const without = flags.filter((flag) => !/^--[ug]idmap/.test(flag))
    await containerd.run(['--rm', ...without], id, 'sh', '-c', 'mknod /tmp/n c 1 3')
    expect(started(id)).toMatchObject({ level: 'warn' })
    await machine.logged(id, 'hostUserns')
  })

  test('ctr runs runc, whatever --runc-binary names', async () => {
    const options = ['--rm', '--runc-binary', '/usr/bin/no-such-runc', ...flags]
    expect(await containerd.run(options, named(), 'echo', 'ran')).toMatchObject({ status: 0, stdout: 'ran\n' })
  })

  test('ctr task exec', async () => {
    const id = named()
    expect(await containerd.run(['--detach', ...flags], id, 'sleep', '1000')).toMatchObject({ status: 0, stderr: '' })
    try {
      const done = await containerd.exec(id, 'caller', '--thread', 'mknod', '/tmp/n', '020666', '1', '5')
      expect(done).toEqual({ status: 0, stdout: '{"ok":true}\n', stderr: '' })
    } finally {
      await containerd.remove(id)
    }
  })
})
