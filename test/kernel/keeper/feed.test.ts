import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, copyFileSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Fd } from '../../../src/kernel/fd.ts'
import { map } from '../../../src/kernel/shared-memory.ts'
import { connectUnix, receive, send, shutdown, waitReadable } from '../../../src/kernel/socket.ts'
import { feedAnswer } from '../../../src/memories/feed-answer.ts'
import { Daemon } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { execute, Host, USERNS, until } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'

const NOBODY = 65534
/** Opens what it was given for writing, maps it so, changes its size; says what it could. */
const TRIES = `
import { ftruncateSync, openSync, writeSync } from 'node:fs'
const tries = {
  reopen: (fd) => openSync('/proc/self/fd/' + fd, 'r+'),
  read: (fd) => openSync('/proc/self/fd/' + fd, 'r'),
  write: (fd) => writeSync(fd, 'x', 0),
  truncate: (fd) => ftruncateSync(fd, 0),
}
const said = [3, 4, 5].flatMap((fd) => Object.entries(tries).map(([name, attempt]) => {
  try { attempt(fd); return name + ' ' + fd } catch { return undefined }
}))
console.log(JSON.stringify(said.filter((each) => each !== undefined)))
`

/** Maps what it was given for reading, and lets that be written to; says what it could. */
const MAPS = `
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
for fd in (3, 4, 5):
    at = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    print(at != ctypes.c_void_p(-1).value, libc.mprotect(at, 4096, mmap.PROT_READ | mmap.PROT_WRITE), ctypes.get_errno())
`

let host: Host
/** A copy of Node: this one may lie in a directory of root's alone. */
const nodes = mkdtempSync(join(tmpdir(), 'intercede-node-'))
const NODE = join(nodes, 'node')
const path = (): string => host.feedSocket
beforeAll(async () => {
  chmodSync(nodes, 0o755)
  copyFileSync(process.execPath, NODE)
  chmodSync(NODE, 0o755)
  host = await Host.start()
  host.mayLoseEngine = true
})
afterAll(() => {
  host?.close()
  rmSync(nodes, { recursive: true })
})

/** Starts a container that makes one call when it is told to. */
const mknod = (name: string): Promise<unknown> =>
  host.run([], [fixture('caller'), 'mknod', join(host.directory, name), '020666', '1', '3'])

/** The keeper is in this process, so a program reads. */
async function read(command: string, ...args: readonly string[]): Promise<readonly Record<string, unknown>[]> {
  const { stdout } = await execute(process.execPath, [CLI, command, '--feed', path(), '--format', 'json', ...args])
  return command === 'ps'
    ? JSON.parse(stdout)
    : stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
}
const ended = async (): Promise<readonly Record<string, unknown>[]> =>
  (await read('ps', '--all')).filter(({ state }) => state === 'ended')
const refused = async (): Promise<readonly Record<string, unknown>[]> =>
  (await read('ps', '--all')).filter(({ state }) => state === 'refused')

test('a reader of another user can neither write what it was given nor open it anew', async () => {
  using connection = connectUnix(path(), 'packet')
  await until('it is answered', () => waitReadable(connection, 0))
  const { fds } = receive(connection, new Uint8Array(256))!
  for (const fd of fds) expect(() => map(fd)).toThrow('EACCES')
  const { stdout } = spawnSync(NODE, ['--input-type=module', '-e', TRIES], {
    ...{ uid: NOBODY, gid: NOBODY, cwd: '/', encoding: 'utf8' as const },
    stdio: ['ignore', 'pipe', 'inherit', ...fds.map(({ raw }) => raw)],
  })
  const mapped = spawnSync('python3', ['-c', MAPS], {
    ...{ uid: NOBODY, gid: NOBODY, cwd: '/', encoding: 'utf8' as const },
    stdio: ['ignore', 'pipe', 'inherit', ...fds.map(({ raw }) => raw)],
  })
  for (const fd of fds) fd[Symbol.dispose]()
  expect(stdout).toBe('[]\n')
  // It may read, and EACCES (13) is the answer to more.
  expect(mapped.stdout).toBe('True -1 13\n'.repeat(3))
})

/** Moves the offset of what it was given first, and lets it not wait; then says both of what it was given second. */
const MOVES = `
import fcntl, os
for fd in (3, 4, 5):
    os.lseek(fd, 4096, os.SEEK_SET)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)
for fd in (6, 7, 8):
    print(os.lseek(fd, 0, os.SEEK_CUR), fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_APPEND))
`

test('a reader changes neither offset nor flags of what another one was given', async () => {
  const given: Fd[] = []
  for (let reader = 0; reader < 2; reader++) {
    using connection = connectUnix(path(), 'packet')
    await until('it is answered', () => waitReadable(connection, 0))
    given.push(...receive(connection, new Uint8Array(256))!.fds)
  }
  const { stdout } = spawnSync('python3', ['-c', MOVES], {
    ...{ encoding: 'utf8' as const, stdio: ['ignore', 'pipe', 'inherit', ...given.map(({ raw }) => raw)] },
  })
  for (const fd of given) fd[Symbol.dispose]()
  expect(stdout).toBe('0 0\n'.repeat(3))
})

test('the socket is for root, and the group if there is one', () => {
  expect(statSync(path()).mode & 0o007).toBe(0)
  const script = `net.connect('${path()}').on('error', ({ code }) => console.log(code))`
  const { stdout } = spawnSync(NODE, ['-e', script], {
    ...{ uid: NOBODY, gid: NOBODY, cwd: '/', encoding: 'utf8' as const },
  })
  expect(stdout).toBe('EACCES\n')
})

test('a client that sends, never reads, or comes a thousand times changes nothing', async () => {
  const clients = Array.from({ length: 500 }, () => connectUnix(path(), 'packet'))
  await until('it still answers', async () => Array.isArray(await read('ps')))
  for (const client of clients) client[Symbol.dispose]()
  expect((await host.call(['mknod', join(host.directory, 'n1'), '020666', '1', '3'])).result).toBe('ok')
})

test('what was counted and who was there survives the end of an engine', async () => {
  const before = (await ended()).length
  await mknod('n2')
  await until('it has ended', async () => (await ended()).length > before)
  expect((await ended()).at(-1)).toMatchObject({ calls: 1, done: 1 })
  process.kill(host.enginePid, 'SIGKILL')
  await until('another engine serves', () => host.restarts > 0)
  expect((await ended()).at(-1)).toMatchObject({ calls: 1, done: 1 })
  await mknod('n3')
  await until('another one has ended', async () => (await ended()).length > before + 1)
  const events = await read('events', '--no-follow')
  expect(events.filter(({ type }) => type === 'call').length).toBeGreaterThanOrEqual(3)
  const types = events.map(({ type }) => type)
  expect(types).toEqual(expect.arrayContaining(['registered', 'ended', 'engineEnded', 'engineStarted']))
})

/** Opens a context of a file system, which takes fsopen(2) of ours, and has it for a while. */
const OPENS = `
import ctypes, time
print(ctypes.CDLL(None).syscall(430, b"tmpfs", 0), flush=True)
time.sleep(60)
`

describe('of a container that has a context', () => {
  let daemon: Daemon
  let child: ChildProcess
  const show = async (...args: readonly string[]): Promise<string> =>
    (await execute(process.execPath, [CLI, ...args, '--feed', join(daemon.directory, 'feed.sock')])).stdout
  beforeAll(async () => {
    daemon = await Daemon.start()
    const metadata = 'security.syscalls.intercept.mount=true\nsecurity.syscalls.intercept.mount.allowed=tmpfs'
    const words = [daemon.socket, '--userns', USERNS, '--pidns', '--await-agent', '--mounts', '--metadata', metadata]
    child = spawn(fixture('filtered'), [...words, '--', 'unshare', '--mount', 'python3', '-c', OPENS])
  })
  afterAll(async () => {
    child?.kill('SIGKILL')
    await daemon?.close()
  })

  test('what is kept for a container is counted', async () => {
    await until('its context is kept', async () => (await show('ps', '--format', '{kept}')) === '1\n')
  })

  test('the descriptor that it was given is no 0 in the format of strace', async () => {
    const said = await show('events', '--no-follow', '--format', 'strace', '--filter', 'syscall=fsopen')
    expect(said).toMatch(/ fsopen\("tmpfs", 0\) = \? \(not recorded\) <[\d.]+>\n$/)
  })

  test('a terminal that says that it has no columns is taken for one of 80', async () => {
    const words = [process.execPath, CLI, 'ps', '--feed', join(daemon.directory, 'feed.sock')]
    const { stdout } = await execute('python3', ['-c', 'import pty, sys; pty.spawn(sys.argv[1:])', ...words])
    expect(stdout).toMatch(/^NAME +STATE .*\r\nfiltered-\d+ /)
  })
})

/** Answers as a daemon does, but gives no memories. */
const FAKES = `
import socket, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.bind(sys.argv[1])
server.listen()
print("listens", flush=True)
server.accept()[0].send(sys.argv[2].encode())
`

test('a socket that answers as a daemon but gives no memories is one sentence', async () => {
  const fake = join(host.directory, 'fake.sock')
  const child = spawn('python3', ['-c', FAKES, fake, Buffer.from(feedAnswer()).toString()])
  try {
    await once(child.stdout, 'data')
    const { stderr } = await execute(process.execPath, [CLI, 'ps', '--feed', fake])
    expect(stderr).toBe(
      `intercede: Cannot read "${fake}": this socket does not give the daemon's memories; name feed.sock with --feed\n`,
    )
  } finally {
    child.kill('SIGKILL')
  }
})

test('a hand-over that is refused is listed with its reason', async () => {
  using client = connectUnix(host.socket)
  send(client, Buffer.from('no state'))
  shutdown(client)
  await until('it is listed', async () => (await refused()).length > 0)
  expect((await refused())[0]!.message).toContain('Cannot')
})

/** Is refused a device, then many file systems, then another device, and waits for the end of its input. */
const FLOODS = `
import ctypes, os, sys
libc = ctypes.CDLL(None)
path = sys.argv[1].encode()
libc.mknod(path, 0o20666, os.makedev(1, 1))
for number in range(200): libc.syscall(430, b"fs%d" % number, 0)
libc.mknod(path, 0o20666, os.makedev(1, 2))
print("refused", flush=True)
sys.stdin.read()
`
const INTERCEPTED = ['mknod=true', 'mount=true', 'mount.allowed=tmpfs']
  .map((each) => `security.syscalls.intercept.${each}`)
  .join('\n')

test('a refusal is still there after a flood of others, which say that they made room', async () => {
  const daemon = await Daemon.start()
  const show = async (command: string, ...args: readonly string[]): Promise<string> =>
    (await execute(process.execPath, [CLI, command, '--feed', join(daemon.directory, 'feed.sock'), ...args])).stdout
  const words = [daemon.socket, '--userns', USERNS, '--await-agent', '--mounts', '--metadata', INTERCEPTED]
  const file = join(daemon.directory, 'node')
  const child = spawn(fixture('filtered'), [...words, '--id', 'flood', '--', 'python3', '-c', FLOODS, file])
  const exit = once(child, 'exit')
  try {
    await once(child.stdout, 'data')
    for (const command of ['explain', 'inspect']) {
      const said = await show(command, 'flood')
      expect(said).toMatch(/mknod.*1:1\)/)
      expect(said).toMatch(/flood: \d+ more kinds of refusals made room for later ones\n$/)
    }
    expect(await show('ps', '--format', '{lastRefusal}')).toContain('1:2')
    child.stdin.end()
    await exit
    const last = ['--all', '--format', '{state} {lastRefusal}']
    await until('it has ended', async () => (await show('ps', ...last)).startsWith('ended'))
    expect(await show('ps', ...last)).toContain('1:2')
    const [about] = JSON.parse(await show('inspect', 'flood', '--format', 'json'))
    // All kinds but the last twelve, which are listed: 200 file systems and two devices.
    expect(about).toMatchObject({ droppedRefusals: 190, refusals: { length: 12 } })
  } finally {
    child.kill('SIGKILL')
    await daemon.close()
  }
})

test('hand-overs that are refused all the time fill neither the log nor the ring of events', async () => {
  const daemon = await Daemon.start()
  const feed = ['--feed', join(daemon.directory, 'feed.sock'), '--no-follow', '--format', '{type}']
  await execute(fixture('filtered'), [daemon.socket, '--userns', USERNS, '--await-agent', '--', 'sleep', '1'])
  for (let number = 0; number < 300; number++) {
    using client = connectUnix(daemon.socket)
    send(client, Buffer.from(number % 2 === 0 ? 'no state' : `{"number":${number}}`))
    shutdown(client)
  }
  const metrics = [CLI, 'metrics', '--feed', join(daemon.directory, 'feed.sock')]
  await until('all are refused', async () =>
    (await execute(process.execPath, metrics)).stdout.includes('result="refused",cause="failed"} 300'),
  )
  const { stdout } = await execute(process.execPath, [CLI, 'events', ...feed])
  expect(stdout).toContain('registered\n')
  const shown = stdout.split('\n').filter((type) => type === 'refused').length
  expect(shown).toBeGreaterThan(0)
  expect(shown).toBeLessThanOrEqual(4)
  await daemon.close()
  const lines = daemon.said.filter((line) => line.includes('Cannot')).length
  expect(lines).toBeLessThanOrEqual(64)
  expect(daemon.said.join('\n')).toMatch(new RegExp(`refusals without a line of their own","count":${300 - lines}}`))
})
