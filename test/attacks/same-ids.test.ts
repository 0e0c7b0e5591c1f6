/**
 * Two runtimes, or two directories of one, as the namespaces of containerd are, may each have a container of the same id. A
 * process that is executed in one of them is not to get what the other has, where they share a user namespace.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeBundle } from '../support/bundle.ts'
import { missing } from '../support/fixtures.ts'
import { type Done, until } from '../support/host.ts'
import { BASE, Machine } from '../support/machine.ts'
import { writeProfile } from '../support/podman.ts'
import { withReason } from '../support/skipped.ts'

const absent = missing('gcc', 'busybox')
const CAPABILITIES = ['CAP_MKNOD', 'CAP_DAC_OVERRIDE']

let machine: Machine
let serial = 0

beforeAll(async () => {
  if (absent) return
  machine = new Machine()
  execFileSync('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
  await machine.serve()
})
afterAll(async () => machine?.close())

interface Running {
  readonly pid: number
  readonly exec: (...args: readonly string[]) => Promise<Done>
  readonly end: () => Promise<unknown>
}

/**
 * Starts a container in a directory of its runtime. runc has ended before the daemon looks at who speaks, as it may at any
 * time: it waits for no answer.
 *
 * @param mknod what its annotation says
 */
async function start(id: string, runtime: string, mknod: boolean, joins?: number): Promise<Running> {
  const place = `place-${serial++}`
  const global = ['--root', join(machine.directory, place)]
  if (runtime === 'crun') global.push('--cgroup-manager', 'cgroupfs')
  const profile = await writeProfile(machine, `${place}.json`, ['-c', 'mknod', '--runtime', runtime])
  const args = ['sleep', '1000']
  const usual = { id: `bundle-${place}`, args, profile, capabilities: CAPABILITIES }
  const folder = writeBundle(machine, { ...usual, ...(joins === undefined ? {} : { joins }) })
  const file = join(folder, 'config.json')
  const spec = JSON.parse(readFileSync(file, 'utf8'))
  spec.annotations = { 'security.syscalls.intercept.mknod': `${mknod}` }
  spec.linux.cgroupsPath = `/intercede-${process.pid}-${place}`
  spec.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' })
  writeFileSync(file, JSON.stringify(spec))
  const call = (...words: readonly string[]): Promise<Done> => machine.run(runtime, ...global, ...words)
  const known = (): number => machine.log.filter((line) => line.message === 'container' && line.container === id).length
  const before = known()
  if (runtime === 'runc') process.kill(machine.pid, 'SIGSTOP')
  try {
    expect(await machine.leave(runtime, ...global, 'run', '--detach', '--bundle', folder, id)).toBe(0)
  } finally {
    process.kill(machine.pid, 'SIGCONT')
  }
  await until('the container is known', () => known() > before)
  const { pid } = JSON.parse((await call('state', id)).stdout) as { readonly pid: number }
  return { pid, exec: (...words) => call('exec', id, ...words), end: () => call('delete', '--force', id) }
}

const needs = absent ?? missing('crun', 'runc')
describe.skipIf(needs)(withReason('containers of the same id', needs), () => {
  test.each([
    ['crun', 'crun'],
    ['runc', 'runc'],
    ['crun', 'runc'],
  ] as const)('what is executed gets what its own container has: %s beside %s', async (...runtimes) => {
    const id = `intercede-same-${process.pid}-${serial}`
    const without = await start(id, runtimes[0], false)
    const having = await start(id, runtimes[1], true, without.pid)
    try {
      const mknod = ['sh', '-c', 'mknod /tmp/$$ c 1 3 2>/dev/null && echo made || echo refused'] as const
      expect((await without.exec(...mknod)).stdout).toBe('refused\n')
      expect((await having.exec(...mknod)).stdout).toBe('made\n')
      await having.end()
      expect((await without.exec(...mknod)).stdout).toBe('refused\n')
    } finally {
      await having.end()
      await without.end()
    }
  })
})
