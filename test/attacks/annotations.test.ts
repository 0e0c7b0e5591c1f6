/*
 * The author of a container, who is not the administrator, gives it annotations of almost a megabyte. The daemon keeps what it knows
 * of a container for the container's life: natively the annotations are only in files of the runtime.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeBundle } from '../support/bundle.ts'
import { missing } from '../support/fixtures.ts'
import { until } from '../support/host.ts'
import { BASE, Machine } from '../support/machine.ts'
import { writeProfile } from '../support/podman.ts'
import { withReason } from '../support/skipped.ts'

const PREFIX = 'security.syscalls.intercept.'
const LONG = 'x'.repeat(1000)
/** So many annotations of a kilobyte, each with this prefix. */
const many = (count: number, prefix: string): Record<string, string> =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`${prefix}${index}${'n'.repeat(40)}`, LONG]))

const absent = missing('crun', 'busybox')
let machine: Machine
let profile: string

beforeAll(async () => {
  if (absent) return
  machine = new Machine()
  execFileSync('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
  await machine.serve()
  profile = await writeProfile(machine, 'crun.json', ['-c', 'mknod', '--runtime', 'crun'])
})
afterAll(async () => machine?.close())

const crun = ['--cgroup-manager', 'cgroupfs']
const logLength = (): number => machine.log.reduce((sum, line) => sum + JSON.stringify(line).length, 0)

/** Starts a container that sleeps. */
async function start(id: string, annotations: Readonly<Record<string, string>>): Promise<void> {
  const folder = writeBundle(machine, { id, args: ['sleep', '1000'], profile, capabilities: ['CAP_MKNOD'] })
  const file = join(folder, 'config.json')
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), annotations }))
  const root = ['--root', join(machine.directory, 'state')]
  expect(await machine.leave('crun', ...root, ...crun, 'run', '--detach', '--bundle', folder, id)).toBe(0)
  await until('its start is logged', () => machine.log.some(({ container }) => container === id))
}

const end = (id: string) =>
  machine.run('crun', '--root', join(machine.directory, 'state'), ...crun, 'delete', '--force', id)

/** The sizes of what the daemon keeps of its containers for its successor. */
const kept = (): readonly number[] =>
  readdirSync(`/proc/${machine.pid}/fd`)
    .map((fd) => `/proc/${machine.pid}/fd/${fd}`)
    .filter((fd) => existsSync(fd) && /memfd:intercede-c\d+ /.test(readlinkSync(fd)))
    .map((fd) => statSync(fd).size)

const KEYS = { [`${PREFIX}mknod`]: 'false', [`${PREFIX}mount.allowed`]: `ext4,${'y'.repeat(5000)}` }
const NAMES = { 'io.kubernetes.cri.container-name': `web${LONG}`, 'io.kubernetes.pod.name': 'pod' }

test.skipIf(absent)(withReason('900 kB of annotations cost the daemon neither memory nor log', absent), async () => {
  const ids = ['foreign', 'unknown'].map((name) => `intercede-${process.pid}-${name}`)
  try {
    await start(ids[0]!, { ...many(850, 'example.com/'), ...KEYS, ...NAMES })
    await start(ids[1]!, { ...many(850, PREFIX), ...KEYS })
    await until('both are kept', () => kept().length === 2)
    process.stderr.write(`annotations: ${kept()} bytes kept, ${logLength()} bytes of log\n`)
    expect(Math.max(...kept())).toBeLessThan(32 * 1024)
    expect(logLength()).toBeLessThan(32 * 1024)
  } finally {
    await Promise.all(ids.map(end))
  }
})

test.skipIf(absent)(withReason('what they say of our keys holds, and names are shown', absent), async () => {
  const id = `intercede-${process.pid}-both`
  try {
    await start(id, { ...many(400, PREFIX), ...many(400, 'example.com/'), ...KEYS, ...NAMES })
    const line = machine.log.find(({ container }) => container === id)!
    expect(line.keys).toMatchObject({
      [`${PREFIX}mknod`]: expect.stringMatching(/^false \(annotation\)/),
      [`${PREFIX}mount.allowed`]: expect.stringMatching(/ \(annotation that cannot be read\)/),
    })
    expect(line.ignored).toHaveLength(16)
    expect(line.ignoredMore).toBe(400 - 16)
    expect(line.lowered).toEqual([
      {
        key: `${PREFIX}mount.allowed`,
        value: expect.stringMatching(/^ext4,y+\.\.\. \(4097 characters\)$/),
        why: 'a value has at most 4096 characters',
      },
    ])
  } finally {
    await end(id)
  }
})
