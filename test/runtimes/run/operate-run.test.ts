import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { orElse } from '../../../src/kernel/error.ts'
import { Daemon } from '../../support/daemon.ts'
import { missing } from '../../support/fixtures.ts'
import { type Done, execute, until } from '../../support/host.ts'
import { cgroupOf, ended, INTERCEDE, sh, start, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const intercede = (...args: readonly string[]): Promise<Done> => execute(process.execPath, [INTERCEDE, ...args])
/** Rows about the container of a run; others may run on this machine. */
const rowsOf = async (child: ChildProcess, command: string, key: string): Promise<Record<string, unknown>[]> => {
  const { stdout } = await intercede(command, '--format', 'json')
  const rows = JSON.parse(stdout || '[]') as Record<string, unknown>[]
  return rows.filter((row) => String(row[key]).startsWith(`${child.pid}-`))
}

const SCRIPT =
  'cd /tmp; mknod null c 1 3; mknod tun c 10 200 2>/dev/null; trap "exit 7" TERM; echo up; sleep 600 & wait'
const cannot = unable()
describe.skipIf(cannot)(withReason('containers of intercede run', cannot), () => {
  let child: ChildProcess
  beforeAll(async () => {
    child = await start(['-c', 'mknod', ...sh(SCRIPT)])
  })
  afterAll(() => {
    child.kill('SIGKILL')
  })

  test('are listed by ps, without a daemon', async () => {
    const rows = await rowsOf(child, 'ps', 'id')
    expect(rows).toMatchObject([{ id: cgroupOf(child.pid)[0], runtime: 'run', keys: ['mknod'], calls: 2, done: 1 }])
  })

  test('are what ps lists, and it says that no daemon could be read', async () => {
    const { status, stderr } = await intercede('ps')
    expect({ status, stderr }).toEqual({
      status: 125,
      stderr: expect.stringMatching(
        /^intercede: Cannot read .*feed.sock": .*; only (history in ".*" and )?what "intercede run" has started is shown(; if .*)?\n$/,
      ),
    })
    expect((await intercede('inspect', 'nobody')).stderr).toMatch(/^intercede: Cannot read /)
  })

  test('are not listed beside a daemon that is named', async () => {
    const daemon = await Daemon.start()
    const feed = ['--feed', join(daemon.directory, 'feed.sock'), '--format', 'json']
    expect(JSON.parse((await intercede('ps', ...feed)).stdout)).toEqual([])
    expect(JSON.parse((await intercede('top', '--once', '--interval', '0.1', ...feed)).stdout)).toEqual([])
    await daemon.close()
  })

  test('have their --name and command in every list', { timeout: 30_000 }, async () => {
    const words = [
      '--name',
      'named-run',
      '-c',
      'mknod',
      ...sh('mknod /tmp/t c 10 200; echo up; while :; do mknod /tmp/a c 1 3; rm /tmp/a; done; : \u001b'),
    ]
    const named = await start(words)
    const id = cgroupOf(named.pid)[0]!
    try {
      const command = expect.stringMatching(/^sh -c mknod \/tmp\/t c 10 200; echo up; while/)
      expect(await rowsOf(named, 'ps', 'id')).toMatchObject([{ id, name: 'named-run', command }])
      expect((await intercede('ps')).stdout).toMatch(/^named-run +served +\d+ +\d+ +mknodat /m)
      expect((await intercede('ps', '--wide')).stdout).toMatch(/^\S+ +run +named-run +sh -c mknod .* mknodat\(/m)
      expect((await intercede('ps', '--format', '{command}')).stdout).toMatch(/done; : \\033$/m)
      const explained = await intercede('explain', 'named-run')
      expect(explained.stdout).toContain(`${id} (named-run): mknodat(`)
      expect((await intercede('top', '--once')).stdout).toMatch(/^named-run +mknodat /m)
      const events = await intercede('events', 'named-run', '--no-follow', '--format', '{name} {type}')
      expect(events.stdout).toContain('named-run call\n')
      // Without a name there is the command.
      expect((await intercede('ps')).stdout).toMatch(new RegExp(`^${cgroupOf(child.pid)[0]} sh -c cd /tmp; mknod`, 'm'))
      const status = ended(named)
      expect(await intercede('stop', 'named-run', '--kill')).toEqual({ status: 0, stdout: `${id}\n`, stderr: '' })
      await status
    } finally {
      named.kill('SIGKILL')
    }
  })

  test('are shown by inspect and explained', async () => {
    const id = cgroupOf(child.pid)[0]!
    const [about] = JSON.parse((await intercede('inspect', id, '--format', 'json')).stdout)
    expect(about.keys.mknod).toEqual({ value: 'true', origin: 'command line' })
    expect((await intercede('inspect', id)).stdout).toMatch(/^mknod +true +command line +the command line of run$/m)
    expect(await rowsOf(child, 'explain', 'container')).toMatchObject([
      {
        reason: 'deviceNotAllowed',
        now: 'nothing: the policy of a run is that of its command line',
        forGood: 'add "-c mknod.devices=c:10:200" to the options of "intercede run"',
      },
    ])
  })

  test('their calls are in events, with what the run ends', { timeout: 30_000 }, async () => {
    const id = cgroupOf(child.pid)[0]!
    const { stdout } = await intercede(
      'events',
      id,
      '--no-follow',
      '--format',
      '{container} {syscall} {verdict} {type}',
    )
    expect(stdout.split('\n').filter((line) => line.endsWith(' call'))).toEqual([
      `${id} mknodat done call`,
      `${id} mknodat left call`,
    ])
    const loop = await start(['-c', 'mknod', ...sh('echo up; read x; mknod /tmp/last c 1 3')])
    const other = cgroupOf(loop.pid)[0]!
    const words = [INTERCEDE, 'events', other, '--format', '{call} {type} {message}']
    const follower = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] })
    let followed = ''
    follower.stdout.on('data', (chunk: Buffer) => (followed += chunk.toString()))
    await until('it shows what is there', () => followed.includes('registered'))
    loop.stdin!.end('\n')
    await ended(loop)
    expect(await ended(follower)).toBe(0)
    await until('all is read', () => followed.includes('the run has ended'))
    const lines = followed.trim().split('\n')
    expect(lines).toContainEqual(
      expect.stringMatching(/^mknodat\(AT_FDCWD, "\/tmp\/last", S_IFCHR\|06\d\d, 1:3\) call/),
    )
    expect(lines.at(-1)).toBe(' daemon the run has ended')
  })

  test('are in top, and nobody can set what they may have', { timeout: 30_000 }, async () => {
    const loop = await start(['-c', 'mknod', ...sh('echo up; while :; do mknod /tmp/a c 1 3; rm /tmp/a; done')])
    const id = cgroupOf(loop.pid)[0]!
    try {
      const { stdout } = await intercede('top', '--once', '--format', '{container} {syscall} {done}')
      expect(stdout).toMatch(new RegExp(`^${id} mknodat \\d`, 'm'))
      expect(await intercede('set', id, 'mknod=false')).toEqual({
        ...{ status: 1, stdout: '' },
        stderr: `intercede: Cannot set keys of ${id}: a container of "intercede run" keeps the keys of its command line; start it again with others\n`,
      })
    } finally {
      loop.kill('SIGKILL')
      await ended(loop)
    }
  })

  test('are ended by stop, as by their terminal', async () => {
    const id = cgroupOf(child.pid)[0]!
    const status = ended(child)
    expect(await intercede('stop', id)).toEqual({ status: 0, stdout: `${id}\n`, stderr: '' })
    expect(await status).toBe(7)
    expect(cgroupOf(child.pid)).toEqual([])
    expect(await rowsOf(child, 'ps', 'id')).toEqual([])
  })

  test('who stops them is in the history of the daemon, and in its log', { timeout: 30_000 }, async () => {
    const history = mkdtempSync(join(tmpdir(), 'intercede-stop-'))
    const daemon = await Daemon.start(`history: { path: ${history} }`)
    try {
      const stopped = await start(['-c', 'mknod', ...sh('echo up; sleep 600 & wait')])
      const id = cgroupOf(stopped.pid)[0]!
      const status = ended(stopped)
      const control = join(daemon.directory, 'control.sock')
      expect(await intercede('stop', '--kill', id, '--control', control)).toMatchObject({ status: 0, stderr: '' })
      await status
      const who = { uid: 0, pid: expect.any(Number), comm: 'intercede' }
      expect(daemon.log.find(({ message }) => message === 'stop ordered')).toMatchObject({ container: id, who })
      const feed = join(daemon.directory, 'feed.sock')
      const said = (await intercede('events', '--feed', feed, '--no-follow', '--json')).stdout.trim().split('\n')
      const order = { type: 'stopOrdered', container: id, message: 'root ends it by SIGKILL', who }
      expect(said.map((line) => JSON.parse(line)).find(({ type }) => type === order.type)).toMatchObject(order)
      const lines = (): readonly string[] => readFileSync(join(history, 'history.jsonl'), 'utf8').trim().split('\n')
      await until('it is kept', () => lines().some((line) => line.includes(order.type)))
      expect(JSON.parse(lines().find((line) => line.includes(order.type))!)).toMatchObject(order)
    } finally {
      await daemon.close()
      rmSync(history, { recursive: true })
    }
  })

  const LOG = '/run/systemd/journal/dev-log'
  const noLog =
    orElse('', () => readlinkSync('/dev/log')) === LOG ? missing('perl') : `/dev/log does not lead to ${LOG}`
  test.skipIf(noLog)(withReason('who stops them is in the log of the machine', noLog), async () => {
    const stopped = await start(['-c', 'mknod', ...sh('echo up; sleep 600 & wait')])
    const id = cgroupOf(stopped.pid)[0]!
    const status = ended(stopped)
    const listen =
      'my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => shift) or die; $s->recv(my $text, 4096); print $text'
    const script =
      `mount --make-rprivate / && mount -t tmpfs none /run && mkdir -p ${dirname(LOG)} && ` +
      `{ perl -MSocket -MIO::Socket::UNIX -e "$1" ${LOG} & } && ` +
      `until [ -S ${LOG} ]; do sleep 0.1; done && "$2" "$3" stop --kill "$4" && wait`
    const done = await execute('unshare', [
      '--mount',
      'sh',
      '-c',
      script,
      'sh',
      listen,
      process.execPath,
      INTERCEDE,
      id,
    ])
    await status
    expect(done.stdout).toMatch(/<29>intercede\[\d+\]: /)
    const [, pid, said] = /<29>intercede\[(\d+)\]: (\{.*\})/.exec(done.stdout)!
    expect(JSON.parse(said!)).toEqual({
      ...{ type: 'stop', container: id, signal: 'SIGKILL' },
      who: expect.objectContaining({ uid: 0, pid: Number(pid), comm: expect.any(String) }),
    })
  })

  test('are not meant by the first digits of their pid: it may have been that of another one', async () => {
    const other = await start(['-c', 'mknod', ...sh('echo up; sleep 600 & wait')])
    const digits = `${other.pid}`.slice(0, -1)
    expect(await intercede('stop', digits)).toMatchObject({ status: 1, stderr: expect.stringContaining(digits) })
    expect(other.exitCode).toBe(null)
    const status = ended(other)
    other.kill('SIGKILL')
    await status
  })

  test('are ended at once by stop --kill', async () => {
    const deaf = await start(['-c', 'mknod', ...sh('trap "" TERM; echo up; sleep 600 & wait; wait')])
    const status = ended(deaf)
    expect((await intercede('stop', '--kill', `${deaf.pid}`)).status).toBe(0)
    await status
    expect(await rowsOf(deaf, 'ps', 'id')).toEqual([])
  })

  test.each([
    [['nobody'], 1, 'no container of "intercede run" has that id or name; "intercede ps" lists them'],
    [[''], 2, 'that is no id'],
  ])('stop %j ends with %i', async (words, status, says) => {
    const done = await intercede('stop', ...words)
    expect(done).toMatchObject({ status, stdout: '', stderr: expect.stringContaining(says) })
  })
})
