import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { recordedRuntime } from '../../../src/runtimes/recorded.ts'
import { writeBundle } from '../../support/bundle.ts'
import { missing } from '../../support/fixtures.ts'
import { FUSE_KEYS, installFuse, lacksFuse, MOUNT, MOUNTED } from '../../support/fuse-image.ts'
import { execute } from '../../support/host.ts'
import { BASE, CLI, Machine } from '../../support/machine.ts'
import { writeProfile } from '../../support/podman.ts'
import { withReason } from '../../support/skipped.ts'

const absent = missing('crun', 'runc', 'busybox')
const names = ['crun', 'runc'] as const
const idOf = (name: string): string => `recorded-${name}-${process.pid}`

let machine: Machine
const initOf = async (name: string): Promise<number> =>
  JSON.parse((await machine.run(name, 'state', idOf(name))).stdout).pid

beforeAll(async () => {
  machine = new Machine()
  if (absent) return
  if (!lacksFuse()) await installFuse(machine)
  writeFileSync(join(machine.directory, 'allow.json'), JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW' }))
  await execute('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
})
afterAll(async () => {
  if (!absent) for (const name of names) await machine.run(name, 'delete', '--force', idOf(name))
  await machine.close()
})

describe.skipIf(absent)(withReason('recordedRuntime()', absent), () => {
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

  test.skipIf(lacksFuse())(
    withReason(
      'a program is started in a container whose runtime was gone, whatever it is called, and ps names the runtime',
      lacksFuse(),
    ),
    async () => {
      const profile = await writeProfile(machine, 'fuse.json', [...FUSE_KEYS, '--runtime', 'runc'])
      const id = `-late-${process.pid}`
      const fuse = { type: 'c', major: 10, minor: 229 }
      const devices = [{ allow: true, access: 'rwm', ...fuse }]
      const folder = writeBundle(machine, {
        id,
        args: ['sleep', '1000'],
        profile,
        capabilities: ['CAP_SYS_ADMIN'],
        devices,
      })
      const file = join(folder, 'config.json')
      const spec = JSON.parse(readFileSync(file, 'utf8'))
      spec.linux.devices = [{ path: '/dev/fuse', fileMode: 0o666, ...fuse }]
      writeFileSync(file, JSON.stringify(spec))
      // The daemon must see the control groups that the runtime saw.
      const script = `"$0" "$1" serve --socket "$2" 2>"$5" & daemon=$!
trap 'runc delete --force -- "$4"; kill -CONT $daemon; kill $daemon; wait' EXIT
until [ -S "$2" ]; do sleep 0.1; done
kill -STOP $daemon
runc run --detach --bundle "$3" -- "$4" </dev/zero >/dev/null 2>&1
kill -CONT $daemon
runc exec -- "$4" sh -c '${MOUNT}'
"$0" "$1" ps --feed "$(dirname "$2")/feed.sock" --format '{runtime}'`
      const log = join(machine.directory, 'log')
      const args = [process.execPath, CLI, machine.socket, folder, id, log]
      const { stdout, stderr } = await machine.run('bash', '-c', script, ...args)
      expect(stdout.trim().split('\n'), `${stderr}${readFileSync(log, 'utf8')}`).toEqual([...MOUNTED, 'runc'])
    },
  )
})
