import { existsSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
// @ts-expect-error: a script without types
import { baseProfile } from '../../../scripts/seccomp-bases.js'
import { resolveGuards } from '../../../src/filter/base.ts'
import type { OciSeccomp } from '../../../src/filter/oci.ts'
import { machines } from '../../../src/filter/target.ts'
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
  await installFuse(machine)
  containerd = await Containerd.start(machine)
  // Where runc ends before the daemon looks at it, its records tell what it was.
  await machine.serve(
    `profiles: { more: { mknod: true, mknod.devices: 'c:10:200' } }\nannotations: { profiles: [more] }\n`,
    containerd.within,
  )
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
    expect(done, `${done.stderr}${JSON.stringify(machine.log.slice(-2))}`).toMatchObject({
      stdout: 'character special file 1:3 0\n',
    })
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

  test('annotations of Kubernetes name the Pod', async () => {
    const id = named()
    const names = { 'container-name': 'app', 'sandbox-name': 'web-1', 'sandbox-namespace': 'shop' }
    const said = Object.entries(names).map(([key, value]) => `--annotation=io.kubernetes.cri.${key}=${value}`)
    await containerd.run(['--rm', ...flags, ...said], id, 'mknod', '/tmp/n', 'c', '1', '3')
    expect(started(id)).toMatchObject({ name: 'app', pod: 'web-1', namespace: 'shop' })
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
    await machine.logged(id, 'hostCapability')
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

/** The source of containerd's default filter, of the package's version: scripts/setup.sh takes it out of another one. */
const SOURCE = '/usr/local/share/intercede-tests/containerd-seccomp.go'
const noSource = absent ?? (existsSync(SOURCE) ? undefined : `${SOURCE} is not there`)

/** What a filter says of each call, whatever the order of its rules. */
const saysOf = ({ architectures = [], syscalls = [], ...rest }: OciSeccomp): object => ({
  ...rest,
  architectures: [...architectures].sort(),
  rules: [
    ...new Set(
      syscalls.flatMap(({ names, action, errnoRet, args }) => {
        const conditions = args?.map(({ index, value, valueTwo = 0, op }) => [index, value, valueTwo, op])
        return names.map((name) => JSON.stringify([name, action, errnoRet, conditions ?? []]))
      }),
    ),
  ].sort(),
})

describe.skipIf(noSource)(withReason('the base profile of containerd', noSource), () => {
  test.each([{ caps: [] }, { caps: ['CAP_SYS_ADMIN', 'CAP_BPF', 'CAP_SYS_PTRACE'] }])(
    'has the rules that containerd gives a container with $caps',
    async ({ caps }) => {
      const id = named()
      const added = caps.flatMap((cap) => ['--cap-add', cap])
      expect(await containerd.run(['--detach', '--seccomp', ...added], id, 'sleep', '1000')).toMatchObject({
        status: 0,
      })
      try {
        const bundle = join(machine.directory, 'containerd-state/io.containerd.runtime.v2.task/default', id)
        const { linux, process: init } = JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8'))
        const base = baseProfile('containerd', {}, [readFileSync(SOURCE, 'utf8')])
        expect(init.capabilities.bounding.toSorted()).toEqual(
          [...base.caps.map((cap: string) => `CAP_${cap}`), ...caps].sort(),
        )
        const { architectures, goArch } = machines[process.arch]!
        const [major = 0, minor = 0] = release().split('.').map(Number)
        const facts = {
          caps: new Set<string>(init.capabilities.bounding),
          arch: goArch,
          kernel: [major, minor],
        } as const
        const {
          source: _,
          caps: __,
          ...profile
        } = resolveGuards(base, architectures[0], facts) as OciSeccomp & {
          source: object
          caps: object
        }
        expect(saysOf(profile)).toEqual(saysOf(linux.seccomp))
      } finally {
        await containerd.remove(id)
      }
    },
  )

  test.each([
    { options: ['--no-base'], stdout: '0\n0\n', stderr: '' },
    { options: ['--base', 'containerd'], stdout: '1\n0\n', stderr: /^unshare: .*: Operation not permitted\n$/ },
  ])('and a key: unshare -U under a profile with $options', async ({ options, stdout, stderr }) => {
    const flags = await flagsFor(`unshare${options[1]}`, ['-c', 'mknod', ...options])
    const script = 'unshare -U true; echo $?; mknod /tmp/n c 1 3; echo $?'
    const done = await containerd.run(['--rm', ...flags], named(), 'sh', '-c', script)
    expect(done).toMatchObject({ stdout, stderr: expect.stringMatching(stderr) })
  })
})
