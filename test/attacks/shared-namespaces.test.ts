/**
 * A container that stops the init of another one, while the runtime starts that in the same user and pid namespaces, and makes
 * nodes by its root directory, which is the host's until it pivots (linux/kernel/ptrace.c __ptrace_may_access(): runtimes make
 * themselves not dumpable before they join).
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeBundle } from '../support/bundle.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { type Done, until } from '../support/host.ts'
import { BASE, Machine } from '../support/machine.ts'
import { writeProfile } from '../support/podman.ts'
import { withReason } from '../support/skipped.ts'

const CAPABILITIES = ['SETUID', 'SETGID', 'SETPCAP', 'DAC_OVERRIDE', 'SYS_PTRACE', 'KILL', 'MKNOD', 'SYS_ADMIN']
const STARTS = 8
const absent = missing('gcc', 'busybox')

let machine: Machine
let serial = 0

beforeAll(async () => {
  if (absent) return
  machine = new Machine()
  copyFileSync(fixture('pounce', ['-static']), join(machine.rootfs, 'bin/pounce'))
  execFileSync('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
  await machine.serve()
})
afterAll(async () => machine?.close())

/** A container that attacks, and others that share its namespaces. */
interface Pod {
  readonly name: string
  /** What the attacker says. */
  readonly output: () => Promise<string>
  /** Starts one of the others, and waits for its end. */
  readonly start: () => Promise<Done>
  readonly end: () => Promise<unknown>
}

const newName = (): string => `intercede-${process.pid}-${serial++}`
const attack = (name: string): readonly string[] => ['pounce', machine.shared, name]

async function podOf(runtime: string): Promise<Pod> {
  const global = ['--root', join(machine.directory, `state-${runtime}`)]
  if (runtime === 'crun') global.push('--cgroup-manager', 'cgroupfs')
  const call = (...args: readonly string[]): Promise<Done> => machine.run(runtime, ...global, ...args)
  const profile = await writeProfile(machine, `${runtime}.json`, ['-c', 'mknod', '--runtime', runtime])
  const usual = { profile, capabilities: CAPABILITIES.map((cap) => `CAP_${cap}`) }
  const name = newName()
  const folder = writeBundle(machine, { ...usual, id: name, args: attack(name) })
  expect(await machine.leave(runtime, ...global, 'run', '--detach', '--bundle', folder, name)).toBe(0)
  const { pid } = JSON.parse((await call('state', name)).stdout) as { readonly pid: number }
  const start = (): Promise<Done> => {
    const id = newName()
    const other = writeBundle(machine, { ...usual, id, args: ['sleep', '0.1'], joins: pid })
    return call('run', '--bundle', other, id)
  }
  const output = async (): Promise<string> => readFileSync(join(machine.directory, 'started'), 'utf8')
  return { name, output, start, end: () => call('delete', '--force', name) }
}

/** @returns what the attacker says of the others */
async function attacked({ name, output, start, end }: Pod): Promise<readonly string[]> {
  try {
    await until('it looks', async () => (await output()).includes(`${name} looking`))
    for (let count = 0; count < STARTS; count++) expect(await start()).toMatchObject({ status: 0, stderr: '' })
    return [...(await output()).matchAll(new RegExp(`^${name} (native=.*)$`, 'gm'))].map(([, line]) => line!)
  } finally {
    await end()
  }
}

/** podman and Kubernetes call one of them, with the paths of the namespaces. */
describe.each(['crun', 'runc'])('a container of %s that shares namespaces with another', (runtime) => {
  const needs = absent ?? missing(runtime)
  test.skipIf(needs)(withReason('no node is made on the host', needs), async () => {
    const said = await attacked(await podOf(runtime))
    // Who is not stopped in time is in its own root directory soon, where it may be looked at: there is no such directory.
    // Once in a hundred starts the kernel lets everybody look just before that, as it says when asked again.
    const made = readdirSync(machine.shared)
    for (const name of made) rmSync(join(machine.shared, name))
    expect(made.length, String(said)).toBe(said.filter((line) => line.includes('root:ok/ok')).length)
    const closed = /^native=EACCES made=root:(EACCES|ENOENT|EPERM|ok\/ok),cwd:\w+,fds:0$/
    expect(said.filter((line) => line.startsWith('native=EACCES ') && !closed.test(line))).toEqual([])
    // Some were looked at while they were still of the runtime.
    const early = said.filter((line) => line.startsWith('native=EACCES made=root:EACCES,cwd:EACCES,'))
    expect(early.length, String(said)).toBeGreaterThan(0)
  })
})
