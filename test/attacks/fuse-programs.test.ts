/**
 * Programs of mount.fuse that attack: they look for keys of the host, leave processes, enlarge their pipes, and take as long as they
 * can. The runtime starts them at the call of a container, from our engine: so they must not be its heirs. Each has a listener,
 * whose number another container's listener gets once it is closed.
 */
import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeBundle } from '../support/bundle.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { type Done, until } from '../support/host.ts'
import { Lxc } from '../support/lxc.ts'
import { BASE, Machine } from '../support/machine.ts'
import { Podman, USUAL, writeProfile } from '../support/podman.ts'
import { withReason } from '../support/skipped.ts'
import { stateOf, statFields } from '../support/stat.ts'

const absent =
  missing('gcc', 'busybox', 'perl', 'setpriv') ?? (existsSync('/proc/keys') ? undefined : 'the kernel has no keys')
const PROGRAMS = ['spy', 'leaves', 'floods', 'sleeps', 'fails', 'stops', 'talks'] as const
const KEYS = `mount.fuse=${PROGRAMS.map((name) => `${name}=/bin/fuse-${name}`).join(',')}`
const CAPABILITIES = ['CAP_SYS_ADMIN', 'CAP_MKNOD', 'CAP_SETUID', 'CAP_SETGID', 'CAP_SYS_NICE', 'CAP_DAC_OVERRIDE']
const FUSE = { type: 'c', major: 10, minor: 229 }

let machine: Machine
let daemonKeys: readonly string[] = []
let serial = 0
const keysFile = (): string => join(machine.directory, 'keys')

beforeAll(async () => {
  if (absent) return
  machine = new Machine()
  const bin = (name: string): string => join(machine.rootfs, 'bin', name)
  copyFileSync(fixture('fuse-hostile', ['-static']), bin('fuse-spy'))
  for (const name of PROGRAMS.slice(1)) linkSync(bin('fuse-spy'), bin(`fuse-${name}`))
  copyFileSync(fixture('mount-call', ['-static']), bin('mount2'))
  copyFileSync(fixture('mknod-loop', ['-static', '-pthread']), bin('mknod-loop'))
  copyFileSync(fixture('fuse-server', ['-static']), bin('fuse-server'))
  mkdirSync(join(machine.rootfs, 'mnt'))
  execFileSync('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
  await machine.serve('', [fixture('daemon-keys'), keysFile()])
  daemonKeys = readFileSync(keysFile(), 'utf8').trim().split(' ')
})
afterAll(async () => {
  if (daemonKeys[2] !== undefined) execFileSync(fixture('daemon-keys'), ['unlink', daemonKeys[2]])
  await machine?.close()
})

interface Running {
  readonly id: string
  /** Runs a script in it. */
  readonly sh: (script: string) => Promise<Done>
  readonly end: () => Promise<unknown>
}

/** A container that waits, with a /tmp of its own. */
async function container(runtime: string): Promise<Running> {
  const global = ['--root', join(machine.directory, `state-${runtime}`)]
  if (runtime === 'crun') global.push('--cgroup-manager', 'cgroupfs')
  const keys = ['-c', 'mknod', '-c', 'mount', '-c', KEYS, '--runtime', runtime]
  const profile = await writeProfile(machine, `${runtime}.json`, keys)
  const id = `intercede-fuse-${process.pid}-${serial++}`
  const devices = [{ allow: true, access: 'rwm' }]
  const folder = writeBundle(machine, { id, args: ['sleep', '1000'], profile, capabilities: CAPABILITIES, devices })
  const file = join(folder, 'config.json')
  const spec = JSON.parse(readFileSync(file, 'utf8'))
  spec.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' })
  spec.linux.devices = [{ path: '/dev/fuse', fileMode: 0o666, uid: 0, gid: 0, ...FUSE }]
  writeFileSync(file, JSON.stringify(spec))
  const call = (...args: readonly string[]): Promise<Done> => machine.run(runtime, ...global, ...args)
  // The runtime stays, so that the daemon sees it however busy the machine is.
  machine.start(runtime, ...global, 'run', '--bundle', folder, id)
  const isKnown = (): boolean => machine.log.some((line) => line.message === 'container' && line.container === id)
  await until('the container is known', isKnown)
  return {
    id,
    sh: (script) => call('exec', id, 'sh', '-c', `PATH=/bin; ${script}`),
    end: () => call('delete', '--force', id),
  }
}

async function withContainers<T>(
  runtime: string,
  count: number,
  action: (containers: readonly Running[]) => Promise<T>,
): Promise<T> {
  const containers: Running[] = []
  try {
    while (containers.length < count) containers.push(await container(runtime))
    return await action(containers)
  } finally {
    for (const { end } of containers) await end()
  }
}

const mounts = (type: (typeof PROGRAMS)[number], count = 1): string =>
  `n=0; while [ $n -lt ${count} ]; do mount2 ${type} /dev/null /mnt; n=$((n+1)); done`
const keyOfDaemon = (key: string | undefined): string =>
  execFileSync(fixture('daemon-keys'), ['read', key ?? ''], { encoding: 'latin1' }).trim()

/** What a program says of keys that are not its own. */
const FOREIGN = /daemon|of root|intercede-test|planted|update ok|_uid\.0 [1-9]/
function expectUntouched(): void {
  const [session, secret, root] = daemonKeys
  expect(keyOfDaemon(secret)).toBe('of the daemon')
  expect(keyOfDaemon(root)).toBe('of root')
  expect(keyOfDaemon(session)).not.toMatch(/^E[A-Z]+$/)
}

/** How many listeners the keeper holds. */
const listeners = (): number =>
  readdirSync(`/proc/${machine.pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${machine.pid}/fd/${fd}`) === 'anon_inode:seccomp notify'
    } catch {
      return false
    }
  }).length

interface Times {
  readonly median: number
  readonly worst: number
}
/** How long calls of a container take, in milliseconds. */
async function answers({ sh }: Running): Promise<Times> {
  const said = JSON.parse((await sh('mknod-loop --count 300 /root/timed')).stdout)
  expect(said.errors).toEqual({})
  return { median: said.medianNs / 1e6, worst: said.maxNs / 1e6 }
}
/** What calls of a container take without and beside an attack, and what part of a processor the main thread then has. */
async function beside(victim: Running, attack: () => unknown) {
  const quiet = await answers(victim)
  const { engine } = machine.log.findLast((line) => line.engine !== undefined)!
  const ticks = (): number => {
    const fields = statFields(`/proc/${engine}/task/${engine}/stat`)
    return Number(fields[11]) + Number(fields[12])
  }
  await attack()
  const [from, before] = [performance.now(), ticks()]
  await new Promise((resolve) => setTimeout(resolve, 2000))
  const attacked = await answers(victim)
  const busy = (1000 * (ticks() - before)) / (performance.now() - from)
  console.log(`quiet ${JSON.stringify(quiet)}; attacked ${JSON.stringify(attacked)}; main thread ${busy.toFixed(0)} %`)
  return { quiet, attacked, busy }
}

/** Where the container of a test has an overlay over a file system of its own. */
const OVERLAY = `/tmp/overlay-${process.pid}`
/** The number of the server of that file system, once it is stopped. */
const stoppedServer = (): number | undefined =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && stateOf(name) === 'T')
    .map(Number)
    .find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(`\0${OVERLAY}\0`))

describe.each(['crun', 'runc'])('a program of mount.fuse, with %s', (runtime) => {
  const needs = absent ?? missing(runtime)

  test.skipIf(needs)(withReason('has no key of the daemon, of root, or of another container', needs), async () => {
    const said = await withContainers(runtime, 2, async (containers) => {
      const keys: string[] = []
      // In one, since runc fails to execute more where a program has revoked what is its session keyring, too.
      for (const { sh } of containers) keys.push((await sh(`${mounts('spy')}; cat /tmp/keys`)).stdout)
      return keys.map((text) => text.replace(/^EINVAL\n/, ''))
    })
    for (const keys of said) {
      expect(keys.split('\n')[0], keys).toBe('session')
      expect(keys).not.toMatch(FOREIGN)
    }
    expectUntouched()
  })

  // runc itself makes a keyring, whose quota is that of the container's ids.
  const alone = needs ?? (runtime === 'runc' ? 'runc makes the keyring' : undefined)
  test.skipIf(alone)(withReason('starts when another container has taken all keys of its ids', alone), async () => {
    await withContainers(runtime, 2, async ([tenant, victim]) => {
      const filling = tenant!.sh('fuse-spy fill')
      const isFull = async (): Promise<boolean> => (await tenant!.sh('ls /tmp/filled')).status === 0
      await until('the keys are taken', isFull, 30)
      const { stdout } = await victim!.sh(`${mounts('spy')}; cat /tmp/keys`)
      // Its keyring is ours: nobody in the container can use it.
      expect(stdout).toMatch(/^EINVAL\nsession\n0 \? = , update EACCES\n/)
      expect(stdout).not.toMatch(FOREIGN)
      await tenant!.end()
      await filling
    })
  })

  test.skipIf(needs)(
    withReason('inherits what a child of its caller would, and nothing of the daemon', needs),
    async () => {
      const script = `umask 022; ${mounts('spy')}; fuse-spy own </dev/null 2>&1 | cat; cat /tmp/own; echo; cat /tmp/served`
      const as = (caller: string): string => `${caller} sh -c 'true | { ${script.replace('</dev/null ', '')}; }'`
      await withContainers(runtime, 1, async ([running]) => {
        const callers = ['', 'busybox taskset 2 busybox ionice -c 2 -n 3']
        for (const caller of callers) {
          const { stdout, stderr } = await running!.sh(as(caller))
          const [own = '', served = ''] = stdout.replace(/^EINVAL\n/, '').split('\n\n')
          // It ignores no signal, even if its caller does.
          const others = (text: string): string[] =>
            text
              .trim()
              .split('\n')
              .filter((line) => !/SigIgn/.test(line))
          expect(others(served)).toEqual(others(own))
          expect(served, stdout + stderr).toMatch(/SigIgn:\s0+\n/)
          expect(own.split('\n').length).toBeGreaterThan(60)
          if (caller !== '') expect(served).toMatch(/processors 1\nI\/O priority 16387\nnice 0 policy 0\n/)
        }
      })
    },
  )
})

describe('a program of mount.fuse, with podman', () => {
  const needs = absent ?? missing('podman', 'crun', 'newuidmap')
  let podman: Podman
  beforeAll(async () => {
    if (needs) return
    execFileSync('chown', ['-R', '0:0', machine.rootfs])
    podman = await Podman.start(machine)
    execFileSync('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
  }, 120_000)
  afterAll(() => podman?.close(), 120_000)

  test.skipIf(needs)(
    withReason('has no key of the daemon, of root, or of another container', needs),
    async () => {
      const stock = ['--runtime', 'podman', '--base', '/usr/share/containers/seccomp.json']
      const profile = await writeProfile(machine, 'podman.json', ['-c', 'mknod', '-c', 'mount', '-c', KEYS, ...stock])
      const caps = CAPABILITIES.map((cap) => `--cap-add=${cap}`)
      const options = [`--security-opt=seccomp=${profile}`, '--userns=auto', '--device=/dev/fuse', ...caps, ...USUAL]
      for (let time = 0; time < 2; time++) {
        const script = `PATH=/bin; ${mounts('spy')}; cat /tmp/keys`
        const { stdout, stderr } = await podman.run('run', ...options, 'test', 'sh', '-c', script)
        expect(stdout, stderr).toMatch(/^EINVAL\nsession\n0 /)
        expect(stdout).not.toMatch(FOREIGN)
      }
      expectUntouched()
    },
    120_000,
  )
})

describe('a program of mount.fuse, with LXC', () => {
  const needs = absent ?? missing('lxc-start')
  async function withLxc(action: (lxc: Lxc) => Promise<void>): Promise<void> {
    execFileSync('chmod', ['1777', join(machine.rootfs, 'tmp')])
    const set = ['mknod=true', 'mount=true', KEYS].map((pair) => `security.syscalls.intercept.${pair}`)
    const name = `it-fuse-${process.pid}-${serial++}`
    // No profile for LXC has that key.
    const lxc = await Lxc.make(machine, name, ['mknod', 'mount', 'mount.allowed=tmpfs'], set.join(';'))
    try {
      expect(await lxc.start()).toBe(0)
      await until('init is there', () => existsSync(join(machine.rootfs, `tmp/${lxc.name}.ready`)))
      await action(lxc)
    } finally {
      await lxc.stop()
    }
  }

  test.skipIf(needs)(withReason('is not started at all', needs), async () => {
    await withLxc(async (lxc) => {
      expect((await lxc.ask('PATH=/bin; mount2 spy /dev/null /mnt; ls /tmp/keys')).said).toMatch(/^E[A-Z]+\nls: /)
    })
    expectUntouched()
  })

  test.skipIf(needs)(
    withReason('leaves the main thread its time for others, however much it calls', needs),
    async () => {
      await withLxc((lxc) =>
        withContainers('crun', 1, async ([victim]) => {
          const attack = 'PATH=/bin; mknod-loop --count 10000000 --processes 3 /tmp/flood >/dev/null 2>&1 & echo on'
          const { busy } = await beside(victim!, () => lxc.ask(attack))
          expect(busy).toBeLessThan(50)
        }),
      )
    },
  )
})

describe('programs of mount.fuse that fail', () => {
  const needs = absent ?? missing('crun')

  test.skipIf(needs)(withReason('leave no listener, and what they leave is not served', needs), async () => {
    await withContainers('crun', 1, async ([running]) => {
      // Its init's, and the copy for the next keeper.
      const isOne = (): boolean => listeners() === 2
      await until('there is one listener', isOne)
      const { stdout } = await running!.sh(mounts('leaves', 8))
      expect(stdout).toBe('EINVAL\n'.repeat(8))
      await until('their listeners are closed', isOne)
      const left = async (): Promise<string> => (await running!.sh('busybox tail -n 8 /tmp/left')).stdout
      await until('what they left is not served', async () => (await left()) === 'ENOSYS\n'.repeat(8))
      expect((await running!.sh('mknod /tmp/n c 1 3 && echo made')).stdout).toBe('made\n')
    })
  })

  test.skipIf(needs)(
    withReason('lose their listener in a flood of calls, of which none ends the engine', needs),
    async () => {
      await withContainers('crun', 1, async ([running]) => {
        const ends = (): number =>
          machine.log.filter(({ message }) => /^the engine /.test(String(message)) && message !== 'the engine serves')
            .length
        const before = ends()
        // The calls of both listeners come in turn, so that no thread receives those of one alone.
        const flood = 'mknod-loop --count 100000000 --device 1:1 /tmp/flood >/dev/null & flood=$!'
        const { stdout } = await running!.sh(`${flood}; ${mounts('floods', 120)}; kill $flood && echo flooded`)
        expect(stdout).toBe(`${'EINVAL\n'.repeat(120)}flooded\n`)
        expect(ends()).toBe(before)
        await until('there is one listener', () => listeners() === 2)
      })
    },
  )

  test.skipIf(needs)(withReason('do not take the listener of another container with them', needs), async () => {
    await withContainers('crun', 2, async ([attacker, victim]) => {
      // The look at the target hangs in the container's own file system when the program has ended.
      const hang = `echo $FUSE_SERVER >/tmp/server; mount2 stops /dev/null ${OVERLAY}/merged/dir`
      const served = `mkdir /tmp/f ${OVERLAY}; fuse-server --overlay ${OVERLAY} /dev/fuse /tmp/f -- sh -c '${hang}'`
      // Two of each container, and none of the test before.
      await until('the containers are served', () => listeners() === 4)
      const before = listeners()
      const call = attacker!.sh(served)
      await until('the program has stopped it', () => stoppedServer() !== undefined, 30)
      // Its listener is closed, and an exec'd process of the other container gets the number.
      await until('the listener of the program is closed', () => listeners() === before + 2, 30)
      const other = victim!.sh('mknod /tmp/first c 1 3; sleep 2; mknod /tmp/second c 1 3 && echo made')
      const isServed = (): boolean => machine.log.some((line) => line.syscall && line.container === victim!.id)
      await until('the other is served', isServed, 30)
      process.kill(stoppedServer()!, 'SIGCONT')
      expect((await call).stdout).toBe('EINVAL\n')
      expect(await other).toMatchObject({ stdout: 'made\n', stderr: '' })
    })
  })

  test.skipIf(needs).each(['fails', 'leaves', 'talks'] as const)(
    withReason('leave the main thread its time for others: %s', needs),
    async (program) => {
      await withContainers('crun', 4, async ([victim, ...others]) => {
        const flood = `for n in 1 2 3; do (${mounts(program, 10_000)}) >/dev/null & done; wait`
        const floods: Promise<Done>[] = []
        const { quiet, attacked, busy } = await beside(victim!, () => floods.push(...others.map(({ sh }) => sh(flood))))
        await Promise.all(others.map(({ end }) => end()))
        await Promise.all(floods)
        expect(busy).toBeLessThan(50)
        expect(attacked.median).toBeLessThan(4 * quiet.median + 10)
        expect(attacked.worst).toBeLessThan(3 * quiet.worst + 500)
      })
    },
  )

  test.skipIf(needs)(withReason("take no memory of pipes from the host's root", needs), async () => {
    const without = ['--bounding-set', '-sys_resource,-sys_admin', '--inh-caps', '-all', '--']
    const enlarged = (): string =>
      execFileSync('setpriv', [...without, 'perl', '-e', 'pipe(R, W); print fcntl(W, 1031, 1 << 20) ? "yes" : "no"'], {
        encoding: 'utf8',
      })
    expect(enlarged()).toBe('yes')
    await withContainers('crun', 1, async ([running]) => {
      expect((await running!.sh(mounts('leaves', 34))).stdout).toBe('EINVAL\n'.repeat(34))
      expect(enlarged()).toBe('yes')
    })
  })
})

describe('programs of mount.fuse that take long', () => {
  const needs = absent ?? missing('crun')

  test.skipIf(needs)(withReason('let another container have its turn', needs), async () => {
    await withContainers('crun', 6, async ([victim, ...others]) => {
      const floods = others.map(({ sh }) => sh(`for n in 1 2 3 4; do (${mounts('sleeps', 4)}) & done; wait`))
      const started = async (): Promise<boolean> =>
        (await others.at(-1)!.sh('busybox ps')).stdout.includes('/bin/fuse-sleeps')
      await until('each of the others has one', started, 30)
      expect((await victim!.sh(mounts('fails', 6))).stdout).toBe('EINVAL\n'.repeat(6))
      await Promise.all(others.map(({ end }) => end()))
      await Promise.all(floods)
    })
  })
})
