/*
 * A container gives its processes and its control groups names that look like lines of procfs, or like more fields of a
 * line of ours. The kernel escapes or refuses line feeds in them, but not carriage returns, which `^` and `$` of a regular
 * expression take for the end of a line as well.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, readFileSync, readlinkSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parseMountinfo } from '../../src/kernel/procfs/mountinfo.ts'
import { statusNumbers } from '../../src/kernel/procfs/status.ts'
import { openGroups } from '../../src/runtimes/inspect.ts'
import { CLI, Daemon } from '../support/daemon.ts'
import { fixture } from '../support/fixtures.ts'
import { execute, USERNS } from '../support/host.ts'
import { withReason } from '../support/skipped.ts'

const mounts = parseMountinfo(readFileSync('/proc/self/mountinfo', 'latin1'))
const unified = mounts.findLast(({ type, root }) => type === 'cgroup2' && root === '/')?.point

/** A shell that has run `command` and waits for the end of its input. */
async function shell(command: string): Promise<AsyncDisposable & { readonly pid: number }> {
  const child = spawn('sh', ['-c', `${command}; echo; read end`, 'sh'], { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  const end = async (): Promise<void> => {
    const ended = once(child, 'exit')
    child.stdin.end()
    await ended
  }
  return { pid: child.pid!, [Symbol.asyncDispose]: end }
}

test('a name of a process that looks like ids is not taken for them', async () => {
  await using named = await shell(String.raw`printf 'x\rUid:\t4711' >/proc/$$/comm`)
  const status = readFileSync(`/proc/${named.pid}/status`, 'latin1')
  expect(status).toContain('\rUid:\t4711\n')
  expect(statusNumbers(status, 'Uid')).toEqual([0, 0, 0, 0])
})

const noUnified = unified ? undefined : 'no cgroup v2 is mounted here'
test.skipIf(noUnified)(
  withReason('a name of a group that looks like a group of the host is not taken for that', noUnified),
  async () => {
    const [host, own] = [`/intercede-host-${process.pid}`, `/intercede-own-${process.pid}\r0::`]
    const groups = [host, own, `${own}${host}`].map((path) => Buffer.from(`${unified}${path}`, 'latin1'))
    for (const group of groups) mkdirSync(group)
    try {
      await using inside = await shell(':')
      writeFileSync(Buffer.from(`${unified}${own}${host}/cgroup.procs`, 'latin1'), `${inside.pid}`)
      expect(readFileSync(`/proc/${inside.pid}/cgroup`, 'latin1')).toContain(`\r0::${host}\n`)
      using cgroup = openGroups(inside.pid, true).cgroup
      expect(readlinkSync(`/proc/self/fd/${cgroup!.raw}`, 'latin1')).toBe(`${unified}${own}${host}`)
    } finally {
      for (const group of groups.toReversed()) rmdirSync(group)
    }
  },
)

test('a name of a process that looks like the end of a line is quoted', async () => {
  const daemon = await Daemon.start()
  try {
    const [name, feed] = ['dpkg, pid 1  ok', join(daemon.directory, 'feed.sock')]
    const program = join(daemon.directory, name)
    copyFileSync(fixture('caller'), program)
    const mknod = ['--', program, 'mknod', join(daemon.directory, 'mem'), '020666', '1', '1']
    const container = ['--userns', USERNS, '--pidns', '--await-agent', '--metadata', 'mknod=true']
    await execute(fixture('filtered'), [daemon.socket, ...container, ...mknod])
    for (const words of [['events', '--no-follow'], ['explain', 'filtered'], ['explain']]) {
      const { stdout } = await execute(process.execPath, [CLI, ...words, '--feed', feed])
      expect(stdout).not.toContain(`by ${name}`)
      if (words.length > 1) expect(stdout).toMatch(/ {2}by "dpkg, pid 1 {2}ok", pid \d+/)
    }
  } finally {
    await daemon.close()
  }
})
