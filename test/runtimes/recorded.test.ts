import { chownSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { recordedRuntime } from '../../src/runtimes/recorded.ts'
import { missing } from '../fixtures.ts'
import { execute } from '../kernel/host.ts'
import { writeBundle } from './bundle.ts'
import { BASE, Machine } from './machine.ts'

const absent = missing('crun', 'runc', 'busybox')
const names = ['crun', 'runc'] as const
const idOf = (name: string): string => `recorded-${name}-${process.pid}`

let machine: Machine
const initOf = async (name: string): Promise<number> =>
  JSON.parse((await machine.run(name, 'state', idOf(name))).stdout).pid

beforeAll(async () => {
  machine = new Machine()
  if (absent) return
  writeFileSync(join(machine.directory, 'allow.json'), JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW' }))
  await execute('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
})
afterAll(async () => {
  if (!absent) for (const name of names) await machine.run(name, 'delete', '--force', idOf(name))
  await machine.close()
})

describe.skipIf(absent)(`recordedRuntime()${absent ?? ''}`, () => {
  test.each(names)('finds %s once it is gone, so that its exec works', async (name) => {
    const id = idOf(name)
    const profile = join(machine.directory, 'allow.json')
    const folder = writeBundle(machine, { id, args: ['sleep', '1000'], profile, capabilities: [] })
    expect(await machine.leave(name, 'run', '--detach', '--bundle', folder, id)).toBe(0)
    const pid = await initOf(name)
    const { program, options } = recordedRuntime({ id, pid })!
    expect([program, ...options]).toEqual([expect.stringMatching(`/${name}$`), '--root', `/run/${name}`])
    expect((await machine.run(program, ...options, 'exec', id, 'echo', 'here')).stdout).toBe('here\n')
    expect(recordedRuntime({ id, pid: pid + 1 })).toBeUndefined()
    expect(recordedRuntime({ id: `../${name}/${id}`, pid })).toBeUndefined()
  })

  test('takes no word of a user for it', () => {
    const run = join(machine.directory, 'run')
    mkdirSync(join(run, 'crun/c'), { recursive: true })
    writeFileSync(join(run, 'crun/c/status'), '{"pid": 7}')
    vi.stubEnv('XDG_RUNTIME_DIR', run)
    try {
      expect(recordedRuntime({ id: 'c', pid: 7 })?.options).toEqual(['--root', join(run, 'crun')])
      chownSync(run, BASE, BASE)
      expect(recordedRuntime({ id: 'c', pid: 7 })).toBeUndefined()
    } finally {
      vi.unstubAllEnvs()
    }
  })
})
