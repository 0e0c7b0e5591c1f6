// A process begins in a cgroup of a container, which can make it wait for ever before it executes its program: it is killed,
// and nobody else waits for it.
import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { AT_FDCWD, O_DIRECTORY, O_PATH, O_RDWR } from '../../../src/abi/fcntl.ts'
import { GroupSpawner } from '../../../src/engine/helpers/group-spawner.ts'
import { SpawnGuard } from '../../../src/engine/helpers/spawn-guard.ts'
import { Fd } from '../../../src/kernel/fd.ts'
import { openat } from '../../../src/kernel/files.ts'
import { cstring } from '../../../src/kernel/libc.ts'
import { spawnsInto } from '../../../src/kernel/posix-spawn.ts'
import { childrenOfOthers } from '../../../src/kernel/process.ts'
import { Group, withoutCgroups } from '../../support/bpf-world.ts'
import { until } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'

const why = withoutCgroups() ?? (spawnsInto ? undefined : 'the C library cannot start a process in a cgroup')

describe.skipIf(why)(withReason('a program in a cgroup', why), () => {
  let group: Group
  let guard: SpawnGuard
  let spawner: GroupSpawner
  beforeEach(() => {
    group = new Group()
    guard = new SpawnGuard(new Int32Array(new SharedArrayBuffer(8)))
    spawner = new GroupSpawner(guard)
  })
  afterEach(async () => {
    await until('no process is left', () => childrenOfOthers().length === 0)
    if (existsSync(group.path)) await group.remove()
  })

  const open = (path: string): Fd => openat(AT_FDCWD, cstring(path), O_PATH | O_DIRECTORY)
  const run = async (script: string, cgroup?: Fd) => {
    using nothing = openat(AT_FDCWD, cstring('/dev/null'), O_RDWR)
    return await spawner.run(['sh', '-c', script], {
      fds: [nothing, nothing, nothing],
      environment: ['PATH=/bin'],
      cgroup,
    })
  }

  test('begins there, with no other descriptor than its own', async () => {
    using cgroup = open(group.path)
    const said = `/tmp/intercede-said-${process.pid}`
    expect(await run(`cat /proc/self/cgroup >${said}; ls /proc/$$/fd >>${said}`, cgroup)).toBe('ended')
    const lines = readFileSync(said, 'latin1').trim().split('\n')
    expect(lines.find((line) => line.startsWith('0::'))).toBe(`0::/${group.path.split('/').at(-1)}`)
    // The shell keeps what it has redirected as 10.
    const fds = lines.slice(lines.findLastIndex((line) => line.includes(':')) + 1).filter((line) => line !== '10')
    expect(fds).toEqual(['0', '1', '2', '3'])
    await run(`rm ${said}`)
  })

  test('is killed if the group is frozen; nobody waits for it, and the next one begins at once', async () => {
    const fds = readdirSync('/proc/self/fd').length
    writeFileSync(`${group.path}/cgroup.freeze`, '1')
    using cgroup = open(group.path)
    const stuck = run(':', cgroup)
    await sleep(10)
    expect(childrenOfOthers()).toHaveLength(1)
    const started = performance.now()
    const next = run(':')
    expect(await stuck).toBe('late')
    expect(await next).toBe('ended')
    // The bounds are 50 ms to begin and 50 ms to be killed.
    expect(performance.now() - started).toBeLessThan(2000)
    await until('its descriptors are closed', () => readdirSync('/proc/self/fd').length <= fds + 1)
  })

  test('is killed if it is frozen while it runs', { timeout: 10_000 }, async () => {
    using cgroup = open(group.path)
    const said = run('exec sleep 60', cgroup)
    await until('it runs', () => readFileSync(`${group.path}/cgroup.procs`, 'latin1') !== '')
    await sleep(100)
    writeFileSync(`${group.path}/cgroup.freeze`, '1')
    expect(await said).toBe('late')
  })

  test('is not started in a group that is gone, without a program, or without a descriptor', async () => {
    using cgroup = open(group.path)
    rmdirSync(group.path)
    expect(await run(':', cgroup)).toBeUndefined()
    const nowhere = { fds: [], environment: [], cgroup: undefined }
    expect(await spawner.run(['/nowhere/program'], nowhere)).toBeUndefined()
    await expect(spawner.run(['true'], { ...nowhere, fds: [new Fd(99_999)] })).rejects.toThrow('EBADF')
    expect(await run(':')).toBe('ended')
  })
})
