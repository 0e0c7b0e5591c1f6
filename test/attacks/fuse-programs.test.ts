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
import { BASE, Machine } from '../support/machine.ts'
import { writeProfile } from '../support/podman.ts'
import { withReason } from '../support/skipped.ts'
import { stateOf } from '../support/stat.ts'

const absent =
  missing('gcc', 'busybox', 'perl', 'setpriv') ?? (existsSync('/proc/keys') ? undefined : 'the kernel has no keys')
const PROGRAMS = ['spy', 'leaves', 'sleeps', 'fails', 'stops'] as const
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

/** How many listeners the keeper holds. */
const listeners = (): number =>
  readdirSync(`/proc/${machine.pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${machine.pid}/fd/${fd}`) === 'anon_inode:seccomp notify'
    } catch {
      return false
    }
  }).length

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
      expect(keys).not.toMatch(/daemon|of root|intercede-test|planted|update ok|_uid\.0 [1-9]/)
    }
    const [session, secret, root] = daemonKeys
    expect(keyOfDaemon(secret)).toBe('of the daemon')
    expect(keyOfDaemon(root)).toBe('of root')
    expect(keyOfDaemon(session)).not.toMatch(/^E[A-Z]+$/)
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

  test.skipIf(needs)(withReason('do not take the listener of another container with them', needs), async () => {
    await withContainers('crun', 2, async ([attacker, victim]) => {
      // The look at the target hangs in the container's own file system when the program has ended.
      const hang = `echo $FUSE_SERVER >/tmp/server; mount2 stops /dev/null ${OVERLAY}/merged/dir`
      const served = `mkdir /tmp/f ${OVERLAY}; fuse-server --overlay ${OVERLAY} /dev/fuse /tmp/f -- sh -c '${hang}'`
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

  test.skipIf(needs)(withReason("take no memory of pipes from the host's root", needs), async () => {
    const without = ['--bounding-set', '-sys_resource,-sys_admin', '--inh-caps', '-all', '--']
    const enlarged = (): string =>
      execFileSync('setpriv', [...without, 'perl', '-e', 'pipe(R, W); print fcntl(W, 1031, 1 << 20) ? "yes" : "no"'], {
        encoding: 'utf8',
      })
    expect(enlarged()).toBe('yes')
    await withContainers('crun', 1, async ([running]) => {
      await running!.sh(mounts('leaves', 34))
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
