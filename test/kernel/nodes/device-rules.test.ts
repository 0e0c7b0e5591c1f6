import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { makedev, S_IFCHR, typedDev } from '../../../src/abi/stat.ts'
import { DeviceProbe, type FoundRules } from '../../../src/engine/facts/probe-device-rules.ts'
import { SpawnGuard } from '../../../src/engine/helpers/spawn-guard.ts'
import { GRANTED } from '../../../src/policy/devices.ts'
import { fixture } from '../../support/fixtures.ts'
import { BASE, execute, Host, USERNS, until } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'

const CONTROLLER = '/sys/fs/cgroup/devices'
/** Names are bytes, and a container can make groups of its own. */
const group = join(CONTROLLER, `intercede-test é "$x\\ ${process.pid}`)
/** Where everything is denied but what a runtime and an administrator allow by name. */
const granting = join(CONTROLLER, `intercede-granting-${process.pid}`)
const GRANTS = [
  'c *:* m',
  'b *:* m',
  'c 1:3 rwm',
  'c 1:1 rwm',
  'c 10:237 rwm',
  'b 7:500 rwm',
  'b 7:501 rm',
  'c 7:502 rwm',
]
const skipped = existsSync(join(CONTROLLER, 'devices.list')) ? undefined : 'there is no devices controller of cgroup v1'

let host: Host
beforeAll(async () => {
  host = await Host.start({ mknod: { devices: new Set([makedev(1, 3), makedev(1, 5), makedev(1, 7), GRANTED]) } })
  if (skipped) return
  mkdirSync(group)
  writeFileSync(join(group, 'devices.deny'), 'c 1:5 rwm')
  writeFileSync(join(group, 'devices.deny'), 'c 1:7 rw')
  mkdirSync(granting)
  writeFileSync(join(granting, 'devices.deny'), 'a')
  for (const rule of GRANTS) writeFileSync(join(granting, 'devices.allow'), rule)
})
afterAll(async () => {
  host.close()
  for (const each of skipped ? [] : [group, granting]) await until('the group is empty', () => isRemoved(each))
})

function isRemoved(directory: string): boolean {
  try {
    rmdirSync(directory)
    return true
  } catch {
    return false
  }
}

test.skipIf(skipped).each([
  { minor: 3, result: 'ok', reason: 'done' },
  { minor: 5, result: 'EPERM', reason: 'deviceCgroup' },
  { minor: 7, result: 'ok', reason: 'doneButClosed' },
])(
  withReason('1:$minor in a group with device rules of v1: $result, $reason', skipped),
  async ({ minor, result, reason }) => {
    expect(await makeIn(group, ['020666', '1', `${minor}`])).toEqual({ result, reason })
  },
)

let nodes = 0
/** Makes a node in a container of a control group. */
async function makeIn(directory: string, node: readonly string[], name = `n${nodes++}`): Promise<object> {
  const before = host.records.length
  const call = [fixture('caller'), 'mknod', join(host.directory, name), ...node]
  const container = [fixture('filtered'), host.socket, '--userns', USERNS, '--await-agent', '--', ...call]
  const { stdout } = await execute('sh', ['-c', 'echo 0 >"$0/cgroup.procs" && exec "$@"', directory, ...container])
  const said = JSON.parse(stdout) as { ok?: true; errno?: string }
  await host.settle(before)
  return { result: said.ok ? 'ok' : said.errno, reason: host.records.at(-1)?.reason }
}

const BLOCK = '060640'
const CHARACTER = '020640'
test.skipIf(skipped).each([
  { what: 'a block device that they name', node: [BLOCK, '7', '500'], result: 'ok', reason: 'doneAsGranted' },
  { what: 'a character device that they name', node: [CHARACTER, '10', '237'], result: 'ok', reason: 'doneAsGranted' },
  { what: 'a harmless device', node: [CHARACTER, '1', '3'], result: 'ok', reason: 'done' },
  { what: 'one that may only be read', node: [BLOCK, '7', '501'], result: 'EPERM', reason: 'deviceNotGranted' },
  { what: 'one that they do not name', node: [BLOCK, '7', '503'], result: 'EPERM', reason: 'deviceNotGranted' },
  { what: 'one of the other type', node: [BLOCK, '7', '502'], result: 'EPERM', reason: 'deviceNotGranted' },
  { what: 'the memory of the host', node: [CHARACTER, '1', '1'], result: 'EPERM', reason: 'deviceNotAllowed' },
])(
  withReason('with mknod.devices=granted and rules that deny all others, $what: $result, $reason', skipped),
  async ({ node, result, reason }) => {
    expect(await makeIn(granting, node, `granted${nodes}`)).toEqual({ result, reason })
    const path = join(host.directory, `granted${nodes++}`)
    if (result !== 'ok') expect(existsSync(path)).toBe(false)
    else
      expect(lstatSync(path)).toMatchObject({
        uid: BASE,
        gid: BASE,
        rdev: Number(node[1]) * 256 + (Number(node[2]) & 255) + (Number(node[2]) >> 8) * 2 ** 20,
      })
  },
)

test.skipIf(skipped)(withReason('rules that allow every device grant none', skipped), async () => {
  expect(await makeIn(group, [BLOCK, '7', '500'])).toEqual({ result: 'EPERM', reason: 'everyDeviceGranted' })
})

/** As a container does that may attach device programs to its own groups: the tighter rules are no grant. */
test.skipIf(skipped)(
  withReason('nor do tighter rules of a group below, which a container has joined', skipped),
  async () => {
    const below = join(group, 'below')
    mkdirSync(below)
    try {
      writeFileSync(join(below, 'devices.deny'), 'a')
      for (const rule of ['b *:* m', 'b 7:500 rwm']) writeFileSync(join(below, 'devices.allow'), rule)
      for (const file of ['tasks', 'cgroup.procs']) chownSync(join(below, file), BASE, BASE)
      const before = host.records.length
      const path = join(host.directory, 'below')
      const move = ['sh', '-c', 'echo 0 >"$0/tasks" && cat /proc/self/cgroup >&2 && exec "$@"', below]
      const call = [fixture('caller'), 'mknod', path, BLOCK, '7', '500']
      const container = [fixture('filtered'), host.socket, '--userns', USERNS, '--await-agent', '--', ...move, ...call]
      const done = await execute('sh', ['-c', 'echo 0 >"$0/cgroup.procs" && exec "$@"', group, ...container])
      expect(done.stderr).toContain('/below')
      expect(done.stdout).toContain('EPERM')
      await host.settle(before)
      expect(host.records.at(-1)).toMatchObject({ reason: 'everyDeviceGranted' })
    } finally {
      await until('it is empty', () => isRemoved(below))
    }
  },
)

/** What threads of a process have started. */
const childrenOf = (pid: number): readonly string[] =>
  readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').split(' ').filter(Boolean),
  )

/** A copy of the host's mounts would keep those busy that somebody unmounts meanwhile. */
test('the process that asks for device rules has no mount namespace of its own', async () => {
  const seen = new Set<string>()
  const programs = () => [...seen].map((process) => process.split(' ')[0])
  const look = (): void => {
    for (const pid of childrenOf(host.enginePid)) {
      try {
        seen.add(`${readFileSync(`/proc/${pid}/comm`, 'latin1').trim()} ${readlinkSync(`/proc/${pid}/ns/mnt`)}`)
      } catch {
        // It has ended.
      }
    }
  }
  const timer = setInterval(look, 0)
  // It lives for a millisecond or two.
  for (let made = 0; made < 100 && !(made >= 4 && programs().includes('sh')); made++)
    await host.run([], [fixture('caller'), 'mknod', join(host.directory, `seen-${made}`), '020666', '1', '3'])
  clearInterval(timer)
  const ours = readlinkSync(`/proc/${host.enginePid}/ns/mnt`)
  expect(programs()).toContain('sh')
  expect([...seen].filter((process) => !process.endsWith(ours))).toEqual([])
})

/** It makes files instead of nodes, as that of uutils does. */
const CP = `#!/bin/sh
for into; do :; done
for file; do if [ -e "$file" ] && [ ! -d "$file" ]; then : >"$into/\${file##*/}"; fi; done
`

test('a cp(1) that copies what devices contain tells nothing about device rules, unless GNU has another', async () => {
  const programs = join(host.directory, 'programs')
  const device = typedDev(S_IFCHR, makedev(1, 3))
  const guard = new SpawnGuard(new Int32Array(new SharedArrayBuffer(4)))
  const found = async (): Promise<FoundRules | undefined> => {
    using probe = new DeviceProbe(guard, [], [], [device])
    expect(await probe.endsWithin(10_000)).toBe(true)
    return probe.found
  }
  mkdirSync(programs)
  writeFileSync(join(programs, 'cp'), CP, { mode: 0o755 })
  const { PATH } = process.env
  process.env.PATH = `${programs}:${PATH}`
  try {
    expect(await found()).toBeUndefined()
    symlinkSync('/bin/cp', join(programs, 'gnucp'))
    expect(await found()).toEqual(new Map([[device, { mknod: true, open: true, full: true }]]))
  } finally {
    process.env.PATH = PATH
  }
})

/** What the engine starts has its limits: a process with no room for a program cannot ask. */
test('device rules that nobody can ask for let nothing be made, say so, and are asked for again soon', async () => {
  const make = async (name: string): Promise<{ readonly said: string; readonly reason: string | undefined }> => {
    const before = host.records.length
    const { stdout } = await host.run([], [fixture('caller'), 'mknod', join(host.directory, name), '020666', '1', '3'])
    await host.settle(before)
    return { said: stdout, reason: host.records.at(-1)?.reason }
  }
  const limit = (bytes: string) => execute('prlimit', ['--pid', `${host.enginePid}`, `--stack=${bytes}:unlimited`])
  await limit('4096')
  expect(await make('unknown')).toMatchObject({ said: expect.stringContaining('EPERM'), reason: 'deviceRulesUnknown' })
  await limit('unlimited')
  await until('they are known', async () => (await make(`known${Date.now()}`)).reason === 'done')
})
