/**
 * The init of a container, which executes a program, while a FUSE server of the container does not answer that a file is
 * closed for it. Until that is answered nobody may look at the init's namespaces or times: of a container of LXC, whose
 * init runs long before its first call, or of an OCI runtime, which waits for no answer to its hand-over.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { CLI, Daemon, Maker } from '../support/daemon.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { BASE, execute, USERNS, until } from '../support/host.ts'
import { Monitor } from '../support/monitor.ts'
import { withReason } from '../support/skipped.ts'

const needs = missing('gcc', 'perl')
/** The calls come from children of the init, which have no part in its execve(2). */
const SCRIPT = `
  for my $node (1, 2) { exec "CALLER", "mknod", "PLACE/node$node", "020666", "1", "3" if !fork }
  WHEN;
  open(my $file, "<", "PLACE/mount/file") or die "open: $!";
  kill "USR1", $ENV{FUSE_SERVER};
  exec "sleep", "1000"`

const OPTIONS = ['--userns', USERNS, '--pidns', '--no-killable']

let daemon: Daemon
let history: string
let maker: Maker
let place: string
/** How a container begins: its program has a FUSE server for a child. */
let server: readonly string[]
let script: (when: string) => string
let monitor: Monitor | undefined
let container: ChildProcess | undefined

beforeAll(async () => {
  if (needs) return
  history = mkdtempSync(join(tmpdir(), 'intercede-history-'))
  daemon = await Daemon.start(`{ default: { security.syscalls.intercept.mknod: true }, history: { path: ${history} } }`)
  maker = new Maker(daemon)
  place = join(daemon.directory, 'place')
  for (const directory of [place, join(place, 'mount')]) {
    mkdirSync(directory)
    chownSync(directory, BASE, BASE)
  }
  execFileSync('mknod', ['-m', '666', join(place, 'fuse'), 'c', '10', '229'])
  script = (when) => SCRIPT.replaceAll('WHEN', when).replaceAll('PLACE', place).replaceAll('CALLER', fixture('caller'))
  server = ['unshare', '--mount', fixture('fuse-server'), join(place, 'fuse'), join(place, 'mount')]
})
afterEach(async () => {
  if (container) endServers(container.pid!)
  container?.kill('SIGKILL')
  await monitor?.end()
  container = monitor = undefined
})
afterAll(async () => {
  maker?.end()
  await daemon?.close()
  if (history) rmSync(history, { recursive: true, force: true })
})

const childrenOf = (pid: number): readonly number[] => {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** Whoever looks at the init, such as ps(1), waits until its server has ended. */
function endServers(pid: number): void {
  for (const child of childrenOf(pid)) {
    endServers(child)
    if (readFileSync(`/proc/${child}/comm`, 'latin1').startsWith('fuse-server')) process.kill(child, 'SIGKILL')
  }
}

/** Returns whether another process that looks at the init waits. */
async function hangs(init: number): Promise<boolean> {
  const cat = spawn('cat', [`/proc/${init}/stat`], { stdio: 'ignore' })
  const ended = new Promise<boolean>((resolve) => cat.on('exit', () => resolve(false)))
  const waits = await Promise.race([ended, sleep(300).then(() => true)])
  cat.kill('SIGKILL')
  return waits
}

/** Starts a container of LXC. @param command of its init */
const startLate = (...command: readonly string[]): Promise<Monitor> =>
  Monitor.over({ directory: daemon.directory, lxcSocket: join(daemon.directory, 'lxc.sock') }, async (path) => {
    container = spawn(fixture('filtered'), [path, ...OPTIONS, '--await-agent', '--', ...command])
  })

describe.skipIf(needs)(withReason('nobody waits for an init at which nobody may look', needs), () => {
  test('of LXC', async () => {
    monitor = await startLate(...server, '--', 'perl', '-e', script('1'))
    const { init } = monitor
    expect(await maker.make()).toBe('ok')
    const notification = await monitor.receive()
    await until('nobody may look at the init', () => hangs(init))
    monitor.forward(monitor.message(notification), notification)
    const other = new Maker(daemon)
    expect(await other.once()).toBe('ok')
    expect(await maker.make()).toBe('ok')
    expect(await monitor.reply(10)).toBe('closed')
    expect(await hangs(init)).toBe(true)
    expect(daemon.said.join('\n')).toContain(`its init, process ${init}, lets nobody look at it`)
    endServers(container!.pid!)
    await until('the init goes on', async () => !(await hangs(init)))
    monitor.reconnect()
    expect((await monitor.serve()).reply).toMatchObject({ response: { error: 0 } })
  })

  // The daemon is late, as it is now and then by itself: without this every tenth container of crun was in time.
  test('of a runtime that does not wait', async () => {
    process.kill(daemon.pid!, 'SIGSTOP')
    let init: number
    try {
      container = spawn(fixture('filtered'), [
        daemon.socket,
        ...OPTIONS,
        '--',
        ...server,
        '--',
        'perl',
        '-e',
        script('1'),
      ])
      await until('the init begins', () => childrenOf(container!.pid!).length > 0)
      init = childrenOf(container.pid!)[0]!
      await until('nobody may look at the init', () => hangs(init))
    } finally {
      process.kill(daemon.pid!, 'SIGCONT')
    }
    const other = new Maker(daemon)
    expect(await other.once()).toBe('ok')
    await until('it is given up', () =>
      daemon.said.join('\n').includes(`its init, process ${init}, lets nobody look at it`),
    )
    expect(await maker.make()).toBe('ok')
    expect(childrenOf(daemon.pid!)).toEqual([daemon.engine])
  })

  test('of a container that is served, when administrators ask', async () => {
    const go = join(place, 'go')
    const before = daemon.logged('container')
    const command = [...server, '--', 'perl', '-e', script(`select undef, undef, undef, 0.01 until -e "${go}"`)]
    container = spawn(fixture('filtered'), [daemon.socket, ...OPTIONS, '--', ...command])
    await until('it is served', () => daemon.logged('container') > before)
    const [init = 0] = childrenOf(container.pid!)
    writeFileSync(go, '')
    await until('nobody may look at the init', () => hangs(init))
    const asked = [CLI, 'ps', '--feed', join(daemon.directory, 'feed.sock'), '--format', '{id} {state}']
    const { stdout, stderr } = await execute('timeout', ['--signal=KILL', '10', process.execPath, ...asked])
    expect({ stdout, stderr }).toEqual({ stdout: expect.stringContaining(`filtered-${init} served`), stderr: '' })
    expect(await hangs(init)).toBe(true)
  })
})

test.skipIf(needs)(
  withReason('an init with a line feed in its name is looked at, and nothing stays', needs),
  async () => {
    const node = join(place, 'named')
    const named = `$0 = "a\\nb"; exec "${fixture('caller')}", "mknod", "${node}", "020666", "1", "3" if !fork; sleep 1000`
    monitor = await startLate('perl', '-e', named)
    await monitor.serve()
    expect(existsSync(node)).toBe(true)
    await until('who looked has ended', () => childrenOf(daemon.pid!).length === 1)
  },
)

test.skipIf(needs)(
  withReason('an init is looked at again while another of its threads executes a program', needs),
  async () => {
    const node = join(place, 'beside')
    const command = [fixture('exec-beside'), '100', fixture('caller'), 'mknod', node, '020666', '1', '3']
    const { stdout } = await execute(fixture('filtered'), [daemon.socket, ...OPTIONS, '--', ...command])
    expect({ stdout, isThere: existsSync(node) }).toEqual({
      stdout: expect.not.stringContaining('ENOSYS'),
      isThere: true,
    })
    await until('who looked has ended', () => childrenOf(daemon.pid!).length === 1)
  },
)
