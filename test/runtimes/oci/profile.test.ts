import { writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { missing, noPodmanProfile, PODMAN_PROFILE } from '../../support/fixtures.ts'
import { type Done, execute } from '../../support/host.ts'
import { CLI, Machine } from '../../support/machine.ts'
import { withReason } from '../../support/skipped.ts'

const KEYS = [
  'mknod',
  'setxattr',
  'sysinfo',
  'sched_setscheduler',
  'bpf',
  'bpf.devices',
  'mount',
  'mount.fuse=ext4=fuse2fs',
]

/**
 * An agent that loses the listener: read() drops a descriptor that comes along, and with the last listener closed the
 * kernel answers a trapped call with ENOSYS, which no kernel with these calls gives by itself.
 */
let agent: Server
let machine: Machine
let handedOver: string[] = []

beforeAll(async () => {
  machine = new Machine()
  agent = createServer((connection) => {
    let text = ''
    connection.on('data', (chunk) => {
      text += chunk.toString()
    })
    connection.on('close', () => handedOver.push(text))
  })
  await new Promise<void>((resolve) => agent.listen(machine.socket, resolve))
})
afterAll(async () => {
  agent.close()
  await machine.close()
})

/** The profile as `intercede profile` prints it. */
async function profile(runtime: string, ...options: readonly string[]): Promise<string> {
  const keys = KEYS.flatMap((key) => ['-c', key])
  const args = [CLI, 'profile', ...keys, '--runtime', runtime, '--listener', machine.socket, ...options]
  const { status, stdout, stderr } = await execute(process.execPath, args)
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  return stdout
}

/** Runs a command under a profile, as root without a user namespace and without any cgroup of its own. */
async function run(runtime: string, seccomp: string, command: readonly string[]): Promise<Done> {
  handedOver = []
  const capabilities = ['CAP_MKNOD', 'CAP_CHOWN', 'CAP_SYS_ADMIN']
  const spec = {
    ociVersion: '1.0.2',
    process: {
      user: { uid: 0, gid: 0 },
      args: command,
      env: ['PATH=/bin'],
      cwd: '/',
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    },
    root: { path: machine.rootfs },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/tmp', type: 'tmpfs', source: 'tmpfs' },
    ],
    linux: { namespaces: ['pid', 'mount', 'ipc', 'uts'].map((type) => ({ type })), seccomp: JSON.parse(seccomp) },
  }
  writeFileSync(join(machine.directory, 'config.json'), JSON.stringify(spec))
  const manager = runtime === 'crun' ? ['--cgroup-manager', 'cgroupfs'] : []
  const id = `profile-${process.pid}-${serial++}`
  const state = join(machine.directory, 'state')
  return machine.run(runtime, '--root', state, ...manager, 'run', '--bundle', machine.directory, id)
}
let serial = 0

/** Podman with everything of its own in the directory of the test. */
async function podman(seccomp: string, options: readonly string[], command: readonly string[]): Promise<Done> {
  handedOver = []
  const at = (name: string) => join(machine.directory, name)
  writeFileSync(at('seccomp.json'), seccomp)
  const global = ['--root', at('podman'), '--runroot', at('podman-run'), '--storage-driver', 'vfs', '--runtime', 'crun']
  const isolation = ['--cgroups=disabled', '--network=none', '--security-opt', `seccomp=${at('seccomp.json')}`]
  const container = ['run', '--rm', ...isolation, ...options, '--rootfs', machine.rootfs]
  return machine.run('podman', '--cgroup-manager', 'cgroupfs', ...global, ...container, ...command)
}

/** Trapped: a device, memory figures. Not trapped, on either side of a condition: a FIFO, a tmpfs by bind. */
const SCRIPT = [
  'caller mknod /tmp/n 020666 1 3',
  'caller mknodat /tmp m 020666 1 3',
  'caller mknod /tmp/f 010666 0 0',
  'stat -c %F /tmp/f',
  'busybox mount -t ext4 none /tmp 2>&1',
  'busybox mount --bind /tmp /tmp && echo bound',
  'busybox rm /tmp/f',
].join('; ')
const SEEN = [
  '{"errno":"ENOSYS"}',
  '{"errno":"ENOSYS"}',
  '{"ok":true}',
  'fifo',
  'mount: mounting none on /tmp failed: Function not implemented',
  'bound',
  '',
].join('\n')

describe.each(['crun', 'runc'])('%s takes the generated profile', (runtime) => {
  const absent = missing(runtime, 'busybox', 'gcc') ?? noPodmanProfile
  test.skipIf(absent).each([
    { what: 'alone', options: [] },
    { what: "on top of podman's", options: ['--base', PODMAN_PROFILE, '--cap-add', 'SYS_ADMIN'] },
    {
      what: "on top of podman's, where two of its rules allow bpf",
      options: ['--base', PODMAN_PROFILE, '--cap-add', 'SYS_ADMIN', '--cap-add', 'BPF'],
    },
  ])(withReason('$what', absent), async ({ options }) => {
    const done = await run(runtime, await profile(runtime, ...options), ['sh', '-c', SCRIPT])
    expect(done.stdout).toBe(SEEN)
    const [state] = handedOver.map((text) => JSON.parse(text) as { metadata: string })
    expect(state?.metadata.split('\n')).toEqual(
      [
        ...['mknod=true', 'bpf=true', 'bpf.devices=true', 'mount=true', 'mount.fuse=ext4=fuse2fs'],
        ...['sched_setscheduler=true', 'setxattr=true', 'sysinfo=true'],
      ]
        .map((line) => `security.syscalls.intercept.${line}`)
        .concat(''),
    )
  })
})

const noRunc = missing('runc', 'crun', 'busybox', 'gcc')
test.skipIf(noRunc)(withReason('runc refuses a profile with flags, which crun takes', noRunc), async () => {
  const flagged = await profile('crun')
  expect(JSON.parse(flagged)).toMatchObject({ flags: expect.arrayContaining([expect.any(String)]) })
  const [refused, taken] = [
    await run('runc', flagged, ['busybox', 'true']),
    await run('crun', flagged, ['busybox', 'true']),
  ]
  expect(refused.stderr).toContain('seccomp flags are not yet supported by runc')
  expect([refused.status, taken.status]).toEqual([1, 0])
})

test.skipIf(noRunc)(
  withReason('crun starts with a profile on a base with TSYNC, which the kernel refuses with a listener', noRunc),
  async () => {
    const TSYNC = 'SECCOMP_FILTER_FLAG_TSYNC'
    const base = join(machine.directory, 'tsync.json')
    writeFileSync(base, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', flags: [TSYNC] }))
    const merged = await profile('crun', '--base', base)
    const flagged = JSON.stringify({ ...JSON.parse(merged), flags: [TSYNC] })
    const [taken, refused] = [
      await run('crun', merged, ['busybox', 'true']),
      await run('crun', flagged, ['busybox', 'true']),
    ]
    expect(taken).toEqual({ status: 0, stdout: '', stderr: '' })
    expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('Invalid argument') })
  },
)

describe('podman takes the generated profile', () => {
  const absent = missing('podman', 'crun', 'busybox', 'gcc') ?? noPodmanProfile
  test.skipIf(absent).each([
    { what: 'alone', options: [], caps: [] },
    { what: 'on top of its own', options: ['--base', PODMAN_PROFILE], caps: [] },
    {
      what: 'on top of its own, where two of its rules allow bpf',
      options: ['--base', PODMAN_PROFILE],
      caps: ['--cap-add=BPF,SYS_ADMIN'],
    },
  ])(withReason('$what', absent), async ({ options, caps }) => {
    const script = 'caller mknod /tmp/n 020666 1 3; caller mknod /tmp/f 010666 0 0; busybox rm /tmp/f'
    const done = await podman(await profile('podman', ...options), caps, ['sh', '-c', script])
    expect(done).toEqual({ status: 0, stdout: '{"errno":"ENOSYS"}\n{"ok":true}\n', stderr: expect.any(String) })
    expect(handedOver).toHaveLength(1)
  })
})

test('--trap says which of its keys do nothing, as -c does', async () => {
  const args = [CLI, 'profile', '-c', 'mknod', '--trap', 'mount', '--trap', 'setxattr.read']
  const { status, stderr } = await execute(process.execPath, args)
  expect({ status, said: stderr.trim().split('\n') }).toEqual({
    status: 0,
    said: [
      'intercede: mount does nothing without mount.allowed or mount.fuse',
      'intercede: setxattr.read does nothing without setxattr=true',
    ],
  })
})

test('a base that would hang a runtime is refused', async () => {
  const base = join(machine.directory, 'base.json')
  const syscalls = [{ names: ['write'], action: 'SCMP_ACT_NOTIFY' }]
  const listenerPath = '/run/intercede/oci.sock'
  writeFileSync(base, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', listenerPath, syscalls }))
  const args = [CLI, 'profile', '-c', 'mknod', '--runtime', 'runc', '--base', base]
  const { status, stdout, stderr } = await execute(process.execPath, args)
  expect({ status, stdout, stderr }).toEqual({
    status: 125,
    stdout: '',
    stderr: `intercede: Cannot use the base profile "${base}": SCMP_ACT_NOTIFY for write would hang runc before it can hand over the listener; "profile --check" says more about it\n`,
  })
})
