// A container makes a node 5:1 of its own and opens it: that would be the console of the host (linux/drivers/tty/tty_io.c
// tty_lookup_driver()), whatever its /dev/console is. The node is a mount with a locked nodev (linux/fs/namei.c may_open_dev()).
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeBundle } from '../support/bundle.ts'
import { missing } from '../support/fixtures.ts'
import { isRemoved } from '../support/groups.ts'
import { type Done, execute, until } from '../support/host.ts'
import { Lxc } from '../support/lxc.ts'
import { BASE, Machine } from '../support/machine.ts'
import { Podman, writeProfile } from '../support/podman.ts'
import { run, sh, unable } from '../support/run-machine.ts'
import { withReason } from '../support/skipped.ts'

const UNIFIED = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((path) => existsSync(`${path}/cgroup.procs`))
const OPENS = '(: <>$n) 2>/dev/null && echo opens || echo closed'
/** Never more than open and close: it is the real one. */
const attack = (name: string): string =>
  `n=${name}; mknod $n c 5 1; echo $?; stat -c %t:%T $n; ${OPENS}; busybox rm -f $n 2>/dev/null`
const HELD = '0\n5:1\nclosed\n'
const EVERYTHING = [{ allow: true, type: 'c', access: 'rwm' }]

/** A container that runs already. */
interface Running {
  /** Runs a script in it, in a process that is brought in. */
  exec(script: string): Promise<Done>
  end(): Promise<unknown>
}
interface Way {
  readonly way: string
  readonly programs: readonly string[]
  start(machine: Machine): Promise<Running>
}

let serial = 0

/** Gives the root file system to the root of the container, as podman does by itself. */
async function own({ rootfs }: Machine): Promise<void> {
  await execute('chown', ['-R', `${BASE}:${BASE}`, rootfs])
  await execute('chmod', ['1777', join(rootfs, 'tmp')])
}

/** Of an OCI runtime, with its own rules or with these. */
const oci =
  (runtime: 'crun' | 'runc', devices?: readonly object[]): Way['start'] =>
  async (machine) => {
    await own(machine)
    const id = `it-console-${process.pid}-${serial++}`
    const profile = await writeProfile(machine, `${id}.json`, ['-c', 'mknod', '--runtime', runtime])
    const capabilities = ['CAP_MKNOD', 'CAP_DAC_OVERRIDE']
    const bundle = writeBundle(machine, {
      id,
      args: ['sleep', '1000'],
      profile,
      capabilities,
      ...(devices ? { devices } : {}),
    })
    const manager = runtime === 'crun' ? ['--cgroup-manager', 'cgroupfs'] : []
    const global = ['--root', join(machine.directory, 'state'), ...manager]
    const call = (...args: readonly string[]) => machine.run(runtime, ...global, ...args)
    expect(await machine.leave(runtime, ...global, 'run', '-d', '--bundle', bundle, id)).toBe(0)
    return {
      exec: (script) => call('exec', id, 'sh', '-c', script),
      end: () => call('delete', '--force', id),
    }
  }

/** What all containers of podman here have, and the image. */
async function podmanOptions(machine: Machine): Promise<readonly string[]> {
  const base = ['--base', '/usr/share/containers/seccomp.json']
  const profile = await writeProfile(machine, 'podman.json', ['-c', 'mknod', '--runtime', 'podman', ...base])
  return ['--rm', '--network=none', `--security-opt=seccomp=${profile}`, '--userns=auto', '--cap-add=MKNOD']
}
/** With a control group; this machine has no controller that would limit it. */
const GROUPED = '--pids-limit=0'

async function podman(machine: Machine): Promise<Running> {
  const engine = await Podman.start(machine)
  const name = `it-console-${process.pid}-${serial++}`
  const options = [...(await podmanOptions(machine)), GROUPED, '-d', '--name', name]
  const status = await engine.leave('run', ...options, 'test', 'sleep', '1000')
  expect([status, readFileSync(join(machine.directory, 'started'), 'utf8')]).toMatchObject([0, expect.any(String)])
  return {
    exec: (script) => engine.run('exec', name, 'sh', '-c', script),
    end: () => engine.close(),
  }
}

async function lxc(machine: Machine): Promise<Running> {
  await own(machine)
  const container = await Lxc.make(machine, `it-console-${process.pid}-${serial++}`, ['mknod'])
  expect(await container.start()).toBe(0)
  const { said } = await container.ask('cat /proc/self/cgroup >/dev/null; echo ready')
  expect(said).toBe('ready\n')
  return {
    exec: (script) => container.attach([], 'sh', '-c', script),
    end: () => container.stop(),
  }
}

const WAYS: readonly Way[] = [
  { way: 'crun', programs: ['crun'], start: oci('crun') },
  { way: 'crun with all character devices', programs: ['crun'], start: oci('crun', EVERYTHING) },
  { way: 'runc with all character devices', programs: ['runc'], start: oci('runc', EVERYTHING) },
  { way: 'podman', programs: ['podman', 'crun'], start: podman },
  { way: 'LXC', programs: ['lxc-start'], start: lxc },
]

/** Where a process is, in the unified hierarchy. */
const groupOf = (pid: string): string => UNIFIED + /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'latin1'))![1]!

/** The process of a container that runs a script which begins so: what lxc-attach(1) starts before may end and start again. */
function find(script: string): string | undefined {
  const ours = readlinkSync('/proc/self/ns/user')
  return readdirSync('/proc').find((pid) => {
    try {
      return (
        readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith(`sh\0-c\0${script}`) &&
        readlinkSync(`/proc/${pid}/ns/user`) !== ours
      )
    } catch {
      return false
    }
  })
}

describe.each(WAYS)('the console in a container of $way', ({ programs, start }) => {
  const why = missing(...programs) ?? unable() ?? (UNIFIED ? undefined : 'no cgroup v2 is mounted here')
  let machine: Machine
  let container: Running | undefined
  beforeAll(async () => {
    if (why) return
    machine = new Machine()
    await machine.serve()
    container = await start(machine)
  })
  afterAll(async () => {
    if (why) return
    await container?.end()
    await machine.close()
  })

  test.skipIf(why)(withReason('does not open, whatever node the container makes', why), async () => {
    expect(await container!.exec(attack('/tmp/c'))).toMatchObject({ stdout: HELD, stderr: '' })
    // A mount of its own gets a node of ours mounted.
    expect(await container!.exec(attack('/dev/c'))).toMatchObject({ stdout: HELD, stderr: '' })
  })

  test.skipIf(why)(withReason('does not open in a cgroup below the container’s own', why), async () => {
    const name = `/tmp/below-${serial++}`
    const waits = `until [ -e ${name} ]; do sleep 0.05; done`
    const done = container!.exec(`${waits}; busybox rm ${name}; ${attack(name)}`)
    await until('it is there', () => find(waits) !== undefined)
    const pid = find(waits)!
    const below = `${groupOf(pid)}/below`
    mkdirSync(below)
    writeFileSync(`${below}/cgroup.procs`, pid)
    writeFileSync(join(`/proc/${pid}/root`, name), '')
    expect(await done).toMatchObject({ stdout: HELD })
    await until('it has gone', () => isRemoved(below))
  })
})

const noPodman = missing('podman', 'crun') ?? unable()

describe.skipIf(noPodman)(withReason('the console in podman run', noPodman), () => {
  let machine: Machine
  let engine: Podman
  let options: readonly string[]
  beforeAll(async () => {
    machine = new Machine()
    await machine.serve()
    engine = await Podman.start(machine)
    options = await podmanOptions(machine)
  })
  afterAll(async () => {
    await engine.close()
    await machine.close()
  })

  test('opens as before where it is the container’s own, a pty', async () => {
    const script = `${attack('/tmp/c')}; n=/dev/console; stat -c %t $n; ${OPENS}`
    const { stdout } = await engine.run('run', '-t', GROUPED, ...options, 'test', 'sh', '-c', script)
    expect(stdout.replaceAll('\r', '')).toBe(`${HELD}88\nopens\n`)
  })

  test('does not open without a control group either', async () => {
    const done = await engine.run('run', '--cgroups=disabled', ...options, 'test', 'sh', '-c', attack('/tmp/c'))
    expect(done).toMatchObject({ stdout: HELD })
  })
})

test.skipIf(unable())(withReason('the console in intercede run does not open', unable()), () => {
  expect(run(['-c', 'mknod', ...sh(attack('c').replace('busybox ', ''))]).stdout).toBe(HELD)
})
