import { copyFileSync, mkdirSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { uptime } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeBundle } from '../../support/bundle.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { type Done, execute, until } from '../../support/host.ts'
import { Lxc } from '../../support/lxc.ts'
import { BASE, Machine } from '../../support/machine.ts'
import { Podman, USUAL, writeProfile } from '../../support/podman.ts'
import { withReason } from '../../support/skipped.ts'

const absent = missing('podman', 'crun', 'runc', 'lxc-start', 'gcc', 'busybox')
const CAPS = ['MKNOD', 'SYS_ADMIN', 'SYS_NICE', 'DAC_OVERRIDE']
/** A container that is younger than this has its own age, not that of the machine. */
const YOUNG_S = 120

/** One container of each runtime, each with a policy that no other has. */
const containers = {
  crun: { keys: ['mknod', 'sched_setscheduler'], ok: ['mknod', 'sched'] },
  runc: { keys: ['mknod', 'mknod.devices=c:10:200', 'sysinfo'], ok: ['mknod', 'tun', 'sysinfo'] },
  podman: { keys: ['setxattr', 'sysinfo', 'sched_setscheduler'], ok: ['setxattr', 'sysinfo', 'sched'] },
  lxc: { keys: ['mknod', 'setxattr'], ok: ['mknod', 'setxattr'] },
} as const
type Runtime = keyof typeof containers
const runtimes = Object.keys(containers) as Runtime[]
const named = (runtime: Runtime): string => `together-${runtime}-${process.pid}`

let machine: Machine
let podman: Podman
let lxc: Lxc
/** How the daemon calls each container. */
const ids = new Map<Runtime, string>()

const oci = (runtime: 'crun' | 'runc', ...args: readonly string[]): readonly string[] => [
  ...[runtime, '--root', join(machine.directory, 'state')],
  ...(runtime === 'crun' ? ['--cgroup-manager', 'cgroupfs'] : []),
  ...args,
]

async function start(runtime: Runtime): Promise<void> {
  if (runtime === 'lxc') {
    lxc = await Lxc.make(machine, named('lxc'), containers.lxc.keys)
    ids.set('lxc', lxc.name)
    await lxc.start()
    await lxc.ask('true')
    return
  }
  const keys = containers[runtime].keys.flatMap((key) => ['-c', key])
  const profile = await writeProfile(machine, `${runtime}.json`, [...keys, '--runtime', runtime])
  const id = named(runtime)
  if (runtime === 'podman') {
    const caps = CAPS.map((cap) => `--cap-add=${cap}`)
    const options = [...USUAL, '-d', '--name', id, '--userns=auto', ...caps, `--security-opt=seccomp=${profile}`]
    expect(await podman.leave('run', ...options, 'test', 'sleep', '1000')).toBe(0)
    const { stdout } = await podman.run('inspect', '--format', '{{.Id}}', id)
    ids.set(runtime, stdout.trim())
    return
  }
  const capabilities = CAPS.map((cap) => `CAP_${cap}`)
  const folder = writeBundle(machine, { id, args: ['sleep', '1000'], profile, capabilities })
  const [program, ...args] = oci(runtime, 'run', '--detach', '--bundle', folder, id)
  expect(await machine.leave(program!, ...args)).toBe(0)
  ids.set(runtime, id)
}

function exec(runtime: Runtime, ...command: readonly string[]): Promise<Done> {
  if (runtime === 'lxc') return lxc.attach([], ...command)
  if (runtime === 'podman') return podman.run('exec', named(runtime), ...command)
  const [program, ...args] = oci(runtime, 'exec', named(runtime), ...command)
  return machine.run(program!, ...args)
}

async function stop(runtime: Runtime): Promise<void> {
  if (runtime === 'lxc') return lxc.stop()
  if (runtime === 'podman') return podman.close()
  const [program, ...args] = oci(runtime, 'delete', '--force', named(runtime))
  await machine.run(program!, ...args)
}

beforeAll(async () => {
  machine = new Machine()
  if (absent) return
  copyFileSync(fixture('four-calls', ['-static']), join(machine.rootfs, 'bin/four-calls'))
  await execute('chmod', ['1777', join(machine.rootfs, 'tmp')])
  // Three of them have the same root: what one makes at the same time, another must not find.
  for (const runtime of runtimes) mkdirSync(join(machine.rootfs, 'tmp', runtime))
  await machine.serve()
  podman = await Podman.start(machine)
  await execute('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
  for (const runtime of runtimes) await start(runtime)
})
afterAll(async () => {
  for (const runtime of ids.keys()) await stop(runtime)
  await machine.close()
})

/** The families of calls that a container was helped with. */
async function helped(runtime: Runtime): Promise<readonly string[]> {
  const { stdout, stderr } = await exec(runtime, 'four-calls', `/tmp/${runtime}`)
  expect(stderr).toBe('')
  const { uptime: age, ...calls } = JSON.parse(stdout) as Record<string, string> & { readonly uptime: number }
  for (const outcome of Object.values(calls)) expect(outcome).toMatch(/^(ok|EPERM)$/)
  const done = Object.keys(calls).filter((name) => calls[name] === 'ok')
  return age < YOUNG_S ? [...done, 'sysinfo'] : done
}

const connect = (): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = createConnection(machine.socket, () => resolve(socket)).on('error', reject)
  })

const linesOf = (runtime: Runtime) =>
  machine.log.filter(({ message, container }) => message === 'call' && container === ids.get(runtime))

describe.skipIf(absent)(withReason('one daemon for four runtimes', absent), () => {
  const tooYoung = uptime() < 2 * YOUNG_S ? 'the machine has just started' : undefined
  test.skipIf(tooYoung)(withReason('gives each container its own policy, at once', tooYoung), async () => {
    const answers = await Promise.all(runtimes.map(helped))
    for (const [index, runtime] of runtimes.entries()) {
      expect([...answers[index]!].sort()).toEqual([...containers[runtime].ok].sort())
      const starts = machine.log.filter(
        ({ message, container }) => message === 'container' && container === ids.get(runtime),
      )
      expect(starts).toHaveLength(1)
      expect(Object.values(starts[0]!.keys as object)).toEqual(
        expect.arrayContaining([expect.stringContaining('(metadata)')]),
      )
    }
    const seen = () =>
      new Set(
        runtimes.flatMap((runtime) => linesOf(runtime).map((line) => `${runtime} ${line.syscall} ${line.verdict}`)),
      )
    await until('all calls are logged', () => seen().size >= 12)
    expect([...seen()].sort()).toMatchInlineSnapshot(`
        [
          "crun mknodat done",
          "crun mknodat left",
          "crun sched_setscheduler done",
          "lxc mknod left",
          "lxc mknodat done",
          "lxc mknodat left",
          "lxc setxattr done",
          "podman sched_setscheduler done",
          "podman setxattr done",
          "podman sysinfo done",
          "runc mknodat done",
          "runc sysinfo done",
        ]
      `)
  })

  test('tells apart two containers that exec at the same time, 200 times', { timeout: 300_000 }, async () => {
    const TIMES = 200
    const majors = { crun: 61, runc: 62 } as const
    const both = ['crun', 'runc'] as const
    const one = async (runtime: 'crun' | 'runc'): Promise<readonly string[]> => {
      const command = oci(
        runtime,
        'exec',
        named(runtime),
        'caller',
        'mknod',
        '/tmp/n',
        '020666',
        `${majors[runtime]}`,
        '$n',
      )
      // An exec that fails says nothing on its output: then its line tells how it ended, and what it said instead.
      const silent = `exec $n ended with $status and said: $(cat ${runtime}.stderr)`
      const each = `said=$(${command.join(' ')} 2>${runtime}.stderr); status=$?; echo "\${said:-${silent}}"`
      return (await machine.run('sh', '-c', `for n in $(seq ${TIMES}); do ${each}; done`)).stdout.trim().split('\n')
    }
    for (const said of await Promise.all(both.map(one))) {
      expect(said).toEqual(Array.from({ length: TIMES }, () => '{"errno":"EPERM"}'))
    }
    const devices = (runtime: Runtime): readonly string[] =>
      linesOf(runtime).flatMap(({ says }) => /the device (6[12]:\d+) is not allowed/.exec(String(says))?.[1] ?? [])
    for (const runtime of both) {
      const own = Array.from({ length: TIMES }, (_, index) => `${majors[runtime]}:${index + 1}`)
      await until(`all calls of ${runtime} are logged`, () => devices(runtime).length >= TIMES)
      expect([...devices(runtime)].sort()).toEqual(own.sort())
    }
    expect(devices('podman')).toEqual([])
  })

  test('serves a runtime beside 500 connections that say nothing', async () => {
    const silent = await Promise.all(Array.from({ length: 500 }, connect))
    try {
      const { stdout } = await exec('crun', 'caller', 'mknod', '/tmp', '020666', '1', '3')
      expect(stdout).toBe('{"errno":"EEXIST"}\n')
      expect(silent.filter((socket) => socket.destroyed)).toEqual([])
    } finally {
      for (const socket of silent) socket.destroy()
    }
    expect(machine.log.filter(({ message }) => String(message).includes('are connected already'))).toEqual([])
  })

  test('is out of reach for all but root', async () => {
    const script = `import socket; socket.socket(socket.AF_UNIX).connect("${machine.socket}")`
    const user = ['--reuid', '1234', '--regid', '1234', '--clear-groups']
    const { status, stderr } = await execute('setpriv', [...user, '/usr/bin/python3', '-c', script])
    expect(status).toBe(1)
    expect(stderr).toContain('PermissionError')
  })
})
