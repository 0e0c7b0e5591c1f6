/**
 * The init of a container of LXC, which executes a program, while a FUSE server of the container does not answer that a file is
 * closed for it. Until that is answered nobody may look at the init's namespaces or times.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chownSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Daemon, Maker } from '../support/daemon.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { BASE, USERNS, until } from '../support/host.ts'
import { Monitor } from '../support/monitor.ts'
import { withReason } from '../support/skipped.ts'

const needs = missing('gcc', 'perl')
/** The calls come from children of the init, which have no part in its execve(2). */
const SCRIPT = `
  for my $node (1, 2) { exec "CALLER", "mknod", "PLACE/node$node", "020666", "1", "3" if !fork }
  open(my $file, "<", "PLACE/mount/file") or die "open: $!";
  kill "USR1", $ENV{FUSE_SERVER};
  exec "sleep", "1000"`

let daemon: Daemon
let maker: Maker
let monitor: Monitor
let container: ChildProcess

beforeAll(async () => {
  if (needs) return
  daemon = await Daemon.start('default: { security.syscalls.intercept.mknod: true }')
  maker = new Maker(daemon)
  const place = join(daemon.directory, 'place')
  for (const directory of [place, join(place, 'mount')]) {
    mkdirSync(directory)
    chownSync(directory, BASE, BASE)
  }
  execFileSync('mknod', ['-m', '666', join(place, 'fuse'), 'c', '10', '229'])
  const script = SCRIPT.replaceAll('PLACE', place).replaceAll('CALLER', fixture('caller'))
  const server = ['unshare', '--mount', fixture('fuse-server'), join(place, 'fuse'), join(place, 'mount')]
  monitor = await Monitor.over(
    { directory: daemon.directory, lxcSocket: join(daemon.directory, 'lxc.sock') },
    async (path) => {
      const options = ['--userns', USERNS, '--pidns', '--await-agent', '--no-killable']
      container = spawn(fixture('filtered'), [path, ...options, '--', ...server, '--', 'perl', '-e', script])
    },
  )
})
afterAll(async () => {
  if (monitor) endServer()
  maker?.end()
  container?.kill('SIGKILL')
  await monitor?.end()
  await daemon?.close()
})

/** Whoever looks at the init, such as ps(1), waits until its server has ended. */
function endServer(): void {
  const children = readFileSync(`/proc/${monitor.init}/task/${monitor.init}/children`, 'latin1')
    .split(' ')
    .filter(Boolean)
  const server = children.find((child) => readFileSync(`/proc/${child}/comm`, 'latin1').startsWith('fuse-server'))
  if (server !== undefined) process.kill(Number(server), 'SIGKILL')
}

/** Returns whether another process that looks at the init waits. */
async function hangs(): Promise<boolean> {
  const cat = spawn('cat', [`/proc/${monitor.init}/stat`], { stdio: 'ignore' })
  const ended = new Promise<boolean>((resolve) => cat.on('exit', () => resolve(false)))
  const waits = await Promise.race([ended, sleep(300).then(() => true)])
  cat.kill('SIGKILL')
  return waits
}

test.skipIf(needs)(withReason('nobody waits for an init at which nobody may look', needs), async () => {
  expect(await maker.make()).toBe('ok')
  const notification = await monitor.receive()
  await until('nobody may look at the init', hangs)
  monitor.forward(monitor.message(notification), notification)
  const other = new Maker(daemon)
  expect(await other.once()).toBe('ok')
  expect(await maker.make()).toBe('ok')
  expect(await monitor.reply(10)).toBe('closed')
  expect(await hangs()).toBe(true)
  expect(daemon.said.join('\n')).toContain(`its init, process ${monitor.init}, lets nobody look at it`)
  endServer()
  await until('the init goes on', async () => !(await hangs()))
  monitor.reconnect()
  expect((await monitor.serve()).reply).toMatchObject({ response: { error: 0 } })
})
