import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from '../../../src/abi/fcntl.ts'
import { type BpfContext, CallerBpf } from '../../../src/caller/programs/caller-bpf.ts'
import { foreignProcesses } from '../../../src/caller/programs/cgroup-lookup.ts'
import type { Fd } from '../../../src/kernel/fd.ts'
import { openat } from '../../../src/kernel/files.ts'
import { Group, withoutCgroups } from '../../support/bpf-world.ts'
import { until } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'

const why = withoutCgroups()
const openDirectory = (path: string): Fd => openat(AT_FDCWD, Buffer.from(`${path}\0`), O_RDONLY | O_DIRECTORY)
const usernsOf = (pid: number): bigint => BigInt(statSync(`/proc/${pid}/ns/user`, { bigint: true }).ino)
const childrenOf = (pid: number): readonly string[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ')

describe.skipIf(why)(withReason('strangers() in the cgroup of a container', why), () => {
  let group: Group
  const started: ChildProcess[] = []
  const start = (...[program, ...args]: [string, ...string[]]): number => {
    const child = spawn(program, args, { stdio: 'ignore' })
    started.push(child)
    return child.pid!
  }
  /** Why programs may not be attached with this process in the group as well. */
  const judge = (pid: number | string, userns: bigint): string | undefined => {
    writeFileSync(`${group.path}/cgroup.procs`, String(pid))
    using home = openDirectory(group.path)
    using proc = openDirectory('/proc')
    return foreignProcesses(home, userns, proc, () => {})
  }
  let userns: bigint

  beforeAll(async () => {
    group = new Group()
    const pid = start('unshare', '--user', 'sleep', '1000')
    await until('the process has its own namespace', () => usernsOf(pid) !== usernsOf(process.pid))
    userns = usernsOf(pid)
    expect(judge(pid, userns)).toBeUndefined()
  })
  afterAll(async () => {
    for (const child of started) child.kill('SIGKILL')
    writeFileSync(`${group.path}/cgroup.kill`, '1')
    await group.remove()
  })

  test('a process that we started is no stranger', () => {
    expect(judge(start('sleep', '1000'), userns)).toBeUndefined()
  })

  test('any other process of the host is a stranger', async () => {
    const shell = start('sh', '-c', 'sleep 1000 & wait')
    await until('it has started another one', () => childrenOf(shell)[0] !== '')
    expect(judge(childrenOf(shell)[0]!, userns)).toBe('sharedCgroup')
  })

  test('what a runtime starts in the container is there for a moment only, and bars nothing', async () => {
    const [other, shell] = [new Group(), start('sh', '-c', 'sleep 1000 & wait')]
    await until('it has started another one', () => childrenOf(shell)[0] !== '')
    const pid = childrenOf(shell)[0]!
    using home = openDirectory(other.path)
    using proc = openDirectory('/proc')
    /** Why an engine that has run for long serves nothing, if this is done after its third look. */
    const barred = (action: () => void): string | undefined => {
      let waits = 0
      const context = {
        identity: { with() {} },
        container: { userns, handles: { cgroup: home.raw } },
        proc,
        mayBlock: () => {
          if (++waits === 3) action()
        },
      }
      return new CallerBpf(context as unknown as BpfContext).barred
    }
    vi.spyOn(process, 'uptime').mockReturnValue(3600)
    try {
      writeFileSync(`${other.path}/cgroup.procs`, pid)
      expect(barred(() => {})).toBe('sharedCgroup')
      expect(barred(() => writeFileSync(`${dirname(other.path)}/cgroup.procs`, pid))).toBeUndefined()
    } finally {
      vi.restoreAllMocks()
      process.kill(Number(pid), 'SIGKILL')
      await other.remove()
    }
  })
})
