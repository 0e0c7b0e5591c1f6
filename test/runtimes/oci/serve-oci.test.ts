import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Done, execute, until } from '../../support/host.ts'
import { BASE, CLI, Machine } from '../../support/machine.ts'

/** The smallest that there is. */
const THREADS_LIMIT = 8
/** At the start. */
const THREADS = 3

let machine: Machine
beforeAll(async () => {
  machine = new Machine()
  await execute('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
  await machine.serve(`limits: { calls: ${THREADS_LIMIT} }`)
})
afterAll(async () => machine.close())

const CAPABILITIES = [
  'CAP_MKNOD',
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_SETUID',
  'CAP_SETGID',
  'CAP_SETFCAP',
  'CAP_SYS_ADMIN',
]

const ALL_CHARACTER_DEVICES = [{ allow: true, type: 'c', access: 'rwm' }]

interface Bundle {
  readonly runtime: string
  readonly args: readonly string[]
  readonly capabilities?: readonly string[]
  readonly userns?: boolean
  readonly noNewPrivileges?: boolean
  readonly readonly?: boolean
  readonly devices?: readonly object[]
}

/** A bundle as a runtime's own `spec` command writes it, with the changes of a test. */
async function bundle({
  runtime,
  args,
  capabilities = CAPABILITIES,
  userns = true,
  noNewPrivileges = false,
  readonly = false,
  devices = ALL_CHARACTER_DEVICES,
}: Bundle): Promise<string> {
  await execute('rm', ['-f', join(machine.directory, 'config.json')])
  await machine.run(runtime, 'spec')
  const file = join(machine.directory, 'config.json')
  const spec = JSON.parse(readFileSync(file, 'utf8'))
  const profile = await execute(process.execPath, [
    CLI,
    'profile',
    '-c',
    'mknod',
    '-c',
    'mknod.devices=c:10:200,c:10:229',
    '--runtime',
    runtime,
    '--listener',
    machine.socket,
  ])
  const ids = [{ containerID: 0, hostID: BASE, size: 65536 }]
  const namespaces = [
    ...spec.linux.namespaces.filter(({ type }: { type: string }) => type !== 'user'),
    ...(userns ? [{ type: 'user' }] : []),
  ]
  const sets = Object.fromEntries(
    ['bounding', 'effective', 'permitted', 'inheritable'].map((set) => [set, capabilities]),
  )
  Object.assign(spec.process, { args, terminal: false, capabilities: sets, noNewPrivileges })
  Object.assign(spec.root, { path: machine.rootfs, readonly })
  Object.assign(spec.linux, {
    namespaces,
    seccomp: JSON.parse(profile.stdout),
    ...(userns ? { uidMappings: ids, gidMappings: ids } : {}),
  })
  spec.linux.resources = { devices: [{ allow: false, access: 'rwm' }, ...devices] }
  writeFileSync(file, JSON.stringify(spec))
  return machine.directory
}

const state = (): string => join(machine.directory, 'state')
const global = (runtime: string): readonly string[] => [
  ...['--root', state()],
  ...(runtime === 'crun' ? ['--cgroup-manager', 'cgroupfs'] : []),
]
const runtimeCall = (runtime: string, ...args: readonly string[]): Promise<Done> =>
  machine.run(runtime, ...global(runtime), ...args)
let serial = 0

/** Runs a container to its end. */
async function container(options: Bundle): Promise<Done & { readonly id: string }> {
  const id = `it-${options.runtime}-${process.pid}-${serial++}`
  const directory = await bundle(options)
  return { ...(await runtimeCall(options.runtime, 'run', '--bundle', directory, id)), id }
}

describe.each(['crun', 'runc'])('a container of %s', (runtime) => {
  test.each([{ noNewPrivileges: false }, { noNewPrivileges: true }])(
    'init makes a device that works, noNewPrivileges $noNewPrivileges',
    async ({ noNewPrivileges }) => {
      const script =
        'umask 027; mknod /tmp/n c 1 3 && echo x >/tmp/n && stat -c "%F %t:%T %a %u" /tmp/n; rm /tmp/n 2>/dev/null; busybox rm /tmp/n'
      const done = await container({ runtime, args: ['sh', '-c', script], noNewPrivileges })
      expect(done).toMatchObject({ stdout: 'character special file 1:3 640 0\n' })
      await machine.logged(done.id, 'done')
      expect(
        machine.log.find(({ message, container }) => message === 'container' && container === done.id),
      ).toMatchObject({
        level: 'info',
        keys: { 'security.syscalls.intercept.mknod': 'true (metadata)' },
      })
    },
  )

  test('over a root that is read-only: EROFS there, as by the kernel, and a device on what may be written to', async () => {
    const script = 'mknod /tmp/n c 1 3; mknod /dev/n c 1 3 && echo x >/dev/n && stat -c "%F %t:%T" /dev/n'
    const done = await container({ runtime, args: ['sh', '-c', script], readonly: true })
    expect(done.stdout).toBe('character special file 1:3\n')
    expect(done.stderr).toContain('mknod: /tmp/n: Read-only file system')
  })

  test('that started in another pid namespace is left to the kernel, for that reason', async () => {
    const id = `it-${runtime}-inner-${process.pid}`
    const script = 'mknod /tmp/n c 1 3'
    const command = [
      runtime,
      ...global(runtime),
      'run',
      '--bundle',
      await bundle({ runtime, args: ['sh', '-c', script] }),
      id,
    ]
    const done = await machine.run('unshare', '--pid', '--fork', '--mount-proc', ...command)
    expect(done.stderr).toContain('mknod: /tmp/n: Operation not permitted')
    expect(await machine.logged(id, 'invisibleCaller')).toMatchObject({
      remedy: expect.stringContaining("in the host's pid namespace"),
    })
    expect(machine.log.find((line) => line.container === id && line.reason === 'invisibleCaller')).not.toHaveProperty(
      'comm',
    )
  })

  test('from a thread that is not the main one, and by descriptor', async () => {
    const script =
      'mkdir /tmp/d; caller --thread mknod /tmp/d/1 020666 1 5; caller mknodat /tmp d/2 020666 1 7; ls /tmp/d; busybox rm -r /tmp/d'
    const done = await container({ runtime, args: ['sh', '-c', script] })
    expect(done.stdout).toBe('{"ok":true}\n{"ok":true}\n1\n2\n')
  })

  test("in the runtime's own /dev, and /dev/net/tun", async () => {
    const script =
      'mknod /dev/null2 c 1 3 && echo x >/dev/null2 && stat -c "%F %t:%T" /dev/null2; mkdir /dev/net; mknod /dev/net/tun c 10 200 && (: <>/dev/net/tun) && echo opens'
    const done = await container({ runtime, args: ['sh', '-c', script] })
    expect(done).toMatchObject({ stdout: 'character special file 1:3\nopens\n', stderr: '' })
  })

  test('a device that the control group does not let be opened: made, as runtimes allow, and the reason says so', async () => {
    const script = 'caller mknod /dev/fuse 020666 10 229; (: </dev/fuse) || echo closed'
    const done = await container({ runtime, args: ['sh', '-c', script], devices: [] })
    expect(done.stdout).toBe('{"ok":true}\nclosed\n')
    await machine.logged(done.id, 'doneButClosed')
  })

  test('what is refused is refused as by the kernel, with the reason in the log', async () => {
    const done = await container({
      runtime,
      args: ['sh', '-c', 'mknod /tmp/n c 1 1; mknod /tmp/n b 8 0; caller --userns mknod /tmp/n 020666 1 3'],
    })
    expect(done.stderr.match(/Operation not permitted/g)).toHaveLength(2)
    expect(done.stdout).toBe('{"errno":"EPERM"}\n')
    expect(await machine.logged(done.id, 'deviceNotAllowed')).toMatchObject({ says: 'the device 1:1 is not allowed' })
    await machine.logged(done.id, 'childUserns')
  })

  test('a runtime that dropped the capability: the log names the flag, at the start and at the call', async () => {
    const done = await container({
      runtime,
      args: ['sh', '-c', 'caller mknod /tmp/n 020666 1 3'],
      capabilities: ['CAP_CHOWN'],
    })
    expect(done.stdout).toBe('{"errno":"EPERM"}\n')
    expect(await machine.logged(done.id, 'lacksCapability')).toMatchObject({
      remedy: expect.stringContaining('--cap-add MKNOD'),
    })
    expect(
      machine.log.find(({ message, container }) => message === 'container' && container === done.id),
    ).toMatchObject({
      level: 'warn',
      cannot: [expect.stringContaining('--cap-add MKNOD')],
    })
  })

  test('a container without a user namespace: everything is left to the kernel, said loudly', async () => {
    const done = await container({
      runtime,
      args: ['sh', '-c', 'caller mknod /tmp/host 020666 1 3; busybox rm /tmp/host'],
      userns: false,
    })
    expect(done.stdout).toBe('{"ok":true}\n')
    expect(await machine.logged(done.id, 'hostCapability')).toMatchObject({ level: 'info', verdict: 'left' })
    expect(
      machine.log.find(({ message, container }) => message === 'container' && container === done.id),
    ).toMatchObject({ level: 'warn', cannot: [expect.stringContaining('--userns=auto')] })
  })

  test('exec: also as a user, in a child user namespace, and many times without a trace', {
    timeout: 300_000,
  }, async () => {
    const id = `it-${runtime}-${process.pid}-exec`
    const directory = await bundle({ runtime, args: ['sleep', '1000'] })
    expect(await machine.leave(runtime, ...global(runtime), 'create', '--bundle', directory, id)).toBe(0)
    try {
      expect(await runtimeCall(runtime, 'start', id)).toMatchObject({ status: 0 })
      const exec = (...args: readonly string[]): Promise<Done> => runtimeCall(runtime, 'exec', ...args)
      expect(await exec(id, 'caller', 'mknod', '/tmp/by-exec', '020666', '1', '3')).toMatchObject({
        stdout: '{"ok":true}\n',
      })
      expect(await exec(id, 'caller', 'mknod', '/tmp/by-exec', '020666', '1', '3')).toMatchObject({
        stdout: '{"errno":"EEXIST"}\n',
      })
      expect(await exec(id, 'caller', '--userns', 'mknod', '/tmp/n', '020666', '1', '3')).toMatchObject({
        stdout: '{"errno":"EPERM"}\n',
      })
      await execute('chmod', ['1777', join(machine.rootfs, 'tmp')])
      expect(await exec('--user', '1000:1000', id, 'caller', 'mknod', '/tmp/n', '020666', '1', '3')).toMatchObject({
        stdout: '{"errno":"EPERM"}\n',
      })
      await machine.logged(id, 'lacksCapability')

      await expectNothingLeft(async () => {
        for (let count = 0; count < EXECS; count++) {
          expect(await exec(id, 'caller', 'mknod', '/tmp/by-exec', '020666', '1', '3')).toMatchObject({
            stdout: '{"errno":"EEXIST"}\n',
          })
        }
      })
    } finally {
      await runtimeCall(runtime, 'delete', '--force', id)
      await execute('rm', ['-f', join(machine.rootfs, 'tmp/by-exec')])
    }
  })
})

/** What leaves something behind does so each time: endurance.test.ts makes thousands. */
const EXECS = 40

/** Descriptors and threads of the daemon and its engine. */
function footprint(): { readonly text: string; readonly threads: number; readonly fds: number } {
  const children = readFileSync(`/proc/${machine.pid}/task/${machine.pid}/children`, 'latin1').trim().split(' ')
  const count = (pid: string, what: 'fd' | 'task'): number => readdirSync(`/proc/${pid}/${what}`).length
  const pids = [String(machine.pid), ...children]
  return {
    text: pids.map((pid) => `${count(pid, 'fd')} descriptors, ${count(pid, 'task')} threads`).join('; '),
    threads: pids.reduce((sum, pid) => sum + count(pid, 'task'), 0),
    fds: pids.reduce((sum, pid) => sum + count(pid, 'fd'), 0),
  }
}

/** What has ended before is let go a little later. */
async function resting(): Promise<ReturnType<typeof footprint>> {
  let [last, since] = [footprint(), Date.now()]
  await until('the daemon rests', () => {
    const now = footprint()
    if (now.text !== last.text) since = Date.now()
    last = now
    return Date.now() - since > 500
  })
  return last
}

/**
 * Expects descriptors and threads to be after `round` as before. When all threads were busy the pool has made more, and keeps
 * them: then the round is made again, as often as that can happen. What leaves something behind does so each time.
 */
async function expectNothingLeft(round: () => Promise<void>): Promise<void> {
  for (let grown = 0; ; ) {
    const before = await resting()
    await round()
    const after = await resting()
    // A helper that was idle may have ended meanwhile: fewer descriptors are no leak.
    if (after.threads === before.threads && after.fds <= before.fds) return
    grown += after.threads - before.threads
    const hasGrown = after.threads > before.threads && grown <= THREADS_LIMIT - THREADS
    expect(hasGrown, `before: ${before.text}, after: ${after.text}`).toBe(true)
  }
}

/** What a runtime says while the daemon is away, as docs/runtimes/crun-runc.md has it. */
const AWAY = [
  ['crun', 'open seccomp receiver: connect socket to'],
  ['runc', 'failed to connect with seccomp agent'],
] as const

test('SIGTERM ends the daemon within two seconds and takes its socket along', async () => {
  const { took, status } = await machine.stop()
  expect(status).toBe(0)
  expect(took).toBeLessThan(2000)
  expect(readdirSync(machine.directory)).not.toContain('oci.sock')
  for (const [runtime, says] of AWAY) {
    const done = await container({ runtime, args: ['busybox', 'true'] })
    expect(done.stderr).toContain(says)
    expect(done.status).toBe(1)
  }
})
