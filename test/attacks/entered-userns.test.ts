/**
 * A container without a user namespace, for which nothing is done, since its ids are those of the host. Its first act is
 * to enter one of its own, before the daemon looks: its runtime does not wait.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeBundle } from '../support/bundle.ts'
import { missing } from '../support/fixtures.ts'
import { until } from '../support/host.ts'
import { Machine } from '../support/machine.ts'
import { writeProfile } from '../support/podman.ts'
import { withReason } from '../support/skipped.ts'

const absent = missing('gcc', 'busybox')
/** What Docker leaves a container, without CAP_MKNOD; with CAP_SETFCAP its root may map itself. */
const CAPABILITIES = ['CAP_DAC_OVERRIDE', 'CAP_SETUID', 'CAP_SETGID', 'CAP_SETFCAP']

let machine: Machine

beforeAll(async () => {
  if (absent) return
  machine = new Machine()
  await machine.serve()
})
afterAll(async () => machine?.close())

describe.each(['crun', 'runc'])('a container of %s that enters a user namespace at once', (runtime) => {
  const needs = absent ?? missing(runtime)
  test.skipIf(needs)(withReason('is not served', needs), async () => {
    const id = `intercede-entered-${runtime}-${process.pid}`
    const global = ['--root', join(machine.directory, runtime)]
    if (runtime === 'crun') global.push('--cgroup-manager', 'cgroupfs')
    const profile = await writeProfile(machine, `${runtime}.json`, ['-c', 'mknod', '--runtime', runtime])
    const [begun, node] = ['begun', 'node'].map((name) => `/shared/${runtime}-${name}`)
    const script = `>${begun}; mknod ${node} c 1 3; exec sleep 1000`
    const args = ['unshare', '-U', '-r', 'sh', '-c', script]
    const folder = writeBundle(machine, { id, args, profile, capabilities: CAPABILITIES })
    const file = join(folder, 'config.json')
    const spec = JSON.parse(readFileSync(file, 'utf8'))
    const { uidMappings: _, gidMappings: __, namespaces, ...linux } = spec.linux
    const others = namespaces.filter(({ type }: { readonly type: string }) => type !== 'user')
    spec.linux = { ...linux, namespaces: others, cgroupsPath: `/${id}` }
    spec.mounts.push({ destination: '/shared', type: 'bind', source: machine.shared, options: ['bind', 'rw'] })
    writeFileSync(file, JSON.stringify(spec))
    try {
      process.kill(machine.pid, 'SIGSTOP')
      try {
        expect(await machine.leave(runtime, ...global, 'run', '--detach', '--bundle', folder, id)).toBe(0)
        await until('it has begun', () => existsSync(join(machine.directory, begun!)))
      } finally {
        process.kill(machine.pid, 'SIGCONT')
      }
      await machine.logged(id, 'hostUserns')
      expect(existsSync(join(machine.directory, node!))).toBe(false)
    } finally {
      await machine.run(runtime, ...global, 'delete', '--force', id)
    }
  })
})
