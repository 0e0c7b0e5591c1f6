/**
 * As shared-namespaces.test.ts, by podman: a container stops the init of another one, while podman has crun start that in the same
 * user and pid namespaces, and makes nodes by its root directory, which is the host's until it pivots.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture, missing } from '../support/fixtures.ts'
import { type Done, until } from '../support/host.ts'
import { Machine } from '../support/machine.ts'
import { Podman, writeProfile } from '../support/podman.ts'
import { withReason } from '../support/skipped.ts'

const CAPABILITIES = ['MKNOD', 'SYS_PTRACE', 'KILL', 'DAC_OVERRIDE', 'SYS_ADMIN']
/** podman lets nobody join a pid namespace without control groups; this machine may lack controllers for what it limits. */
const LIMITS = ['--network=none', '--pids-limit=0'] as const
const STARTS = 4
const BOUND_MS = 120_000
const STOCK = '/usr/share/containers/seccomp.json'
const absent = missing('gcc', 'podman', 'crun', 'busybox', 'newuidmap')

let machine: Machine
let podman: Podman
let usual: readonly string[]
let serial = 0

beforeAll(async () => {
  if (absent) return
  machine = new Machine()
  copyFileSync(fixture('pounce', ['-static']), join(machine.rootfs, 'bin/pounce'))
  execFileSync('chown', ['-R', '0:0', machine.rootfs])
  await machine.serve()
  // Each command has a /dev/shm of its own here, in which podman's usual locks would be others each time.
  process.env.CONTAINERS_CONF = join(machine.directory, 'containers.conf')
  writeFileSync(process.env.CONTAINERS_CONF, '[engine]\nlock_type = "file"\n')
  podman = await Podman.start(machine)
  const profile = await writeProfile(machine, 'shared.json', ['-c', 'mknod', '--runtime', 'podman', '--base', STOCK])
  usual = [`--security-opt=seccomp=${profile}`, ...CAPABILITIES.map((cap) => `--cap-add=${cap}`)]
}, BOUND_MS)
afterAll(async () => {
  await podman?.close()
  await machine?.close()
  delete process.env.CONTAINERS_CONF
}, BOUND_MS)

/** How containers come to share their user and pid namespaces with one that attacks. */
interface Way {
  /** Options of the attacker, once what it needs is there. */
  readonly first: (name: string) => Promise<readonly string[]>
  readonly others: (name: string) => readonly string[]
  readonly end: (name: string) => Promise<unknown>
}

const ways: Readonly<Record<string, Way>> = {
  '--pid and --userns of a container': {
    first: async () => ['--userns=auto', ...LIMITS],
    others: (name) => [`--userns=container:${name}`, `--pid=container:${name}`, ...LIMITS],
    end: (name) => podman.run('rm', '--force', '--time=0', name),
  },
  'a pod that shares pid': {
    async first(name) {
      const made = await podman.run('pod', 'create', `--name=pod-${name}`, '--userns=auto', '--share=pid,ipc,uts')
      expect(made).toMatchObject({ status: 0 })
      return [`--pod=pod-${name}`, ...LIMITS]
    },
    others: (name) => [`--pod=pod-${name}`, ...LIMITS],
    end: (name) => podman.run('pod', 'rm', '--force', '--time=0', `pod-${name}`),
  },
}

/** @returns what the attacker says of the others */
async function attacked({ first, others, end }: Way): Promise<readonly string[]> {
  const name = `intercede-${process.pid}-${serial++}`
  const output = async (): Promise<string> => (await podman.run('logs', name)).stdout
  try {
    const command = ['run', '--detach', `--name=${name}`, '--log-driver=k8s-file', ...(await first(name)), ...usual]
    expect(await podman.leave(...command, 'test', '/bin/pounce', machine.shared, name)).toBe(0)
    await until('it looks', async () => (await output()).includes(`${name} looking`))
    for (let count = 0; count < STARTS; count++) {
      const done: Done = await podman.run('run', ...others(name), ...usual, 'test', '/bin/sleep', '0.3')
      expect(done).toMatchObject({ status: 0, stderr: '' })
    }
    return [...(await output()).matchAll(new RegExp(`^${name} (native=.*)$`, 'gm'))].map(([, line]) => line!)
  } finally {
    await end(name)
  }
}

describe.skipIf(absent)(withReason('podman containers that share namespaces', absent), () => {
  test.each(Object.entries(ways))(
    'no node is made on the host: %s',
    async (_, way) => {
      const said = await attacked(way)
      expect(readdirSync(machine.shared), String(said)).toEqual([])
      // Who is not stopped in time is in its own root directory soon, where it may be looked at: there is no such directory.
      const closed = /^native=EACCES made=root:(EACCES|ENOENT|EPERM),cwd:\w+,fds:0$/
      expect(said.filter((line) => line.startsWith('native=EACCES ') && !closed.test(line))).toEqual([])
      // Some were looked at while they were still of the runtime.
      const early = said.filter((line) => line.startsWith('native=EACCES made=root:EACCES,cwd:EACCES,'))
      expect(early.length, String(said)).toBeGreaterThan(0)
    },
    BOUND_MS,
  )
})
