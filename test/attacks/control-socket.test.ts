import { chmodSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MSG_DONTWAIT } from '../../src/abi/socket.ts'
import { dup, type Fd } from '../../src/kernel/fd.ts'
import { connectUnix, receive, send, socketpair, waitReadable } from '../../src/kernel/socket.ts'
import { CLI, Daemon, Maker } from '../support/daemon.ts'
import { fixture } from '../support/fixtures.ts'
import { execute, USERNS, until } from '../support/host.ts'

const LIMIT = 64 * 1024
const START_S = 60
/** A connection that no packet of ours would ever make, as a program of Perl, which every Debian has. */
const CONNECT = `use Socket; socket(S, AF_UNIX, 5, 0) or die;
connect(S, pack_sockaddr_un($ARGV[0])) or do { print "refused: $!"; exit };
send(S, $ARGV[1], 0); recv(S, $x, 100, 0); recv(S, $x, 100, 0) if $x eq ''; print "answered: $x"`
const ORDER = JSON.stringify({ version: 2, type: 'reload', dry: true })

let daemon: Daemon
let maker: Maker
const path = (): string => join(daemon.directory, 'control.sock')
const keeper = (): number => daemon.pid!
const descriptors = (): number => readdirSync(`/proc/${keeper()}/fd`).length
const memory = (): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${keeper()}/status`, 'utf8'))![1]) / 1024

beforeAll(async () => {
  daemon = await Daemon.start()
  maker = new Maker(daemon)
  expect(await maker.make()).toBe('ok')
})
afterAll(async () => {
  maker.end()
  await daemon.close()
})

/** Sends bytes, and says what the answer is; undefined where the connection was closed without an answer. */
async function order(
  bytes: Uint8Array | string,
  fds: readonly Fd[] = [],
): Promise<Record<string, unknown> | undefined> {
  using connection = connectUnix(path(), 'packet')
  send(connection, Buffer.from(bytes), fds)
  await until('it answers', () => waitReadable(connection, 0))
  const [file] = receive(connection, Buffer.alloc(64))?.fds ?? []
  if (!file) return undefined
  using owned = file
  return JSON.parse(readFileSync(`/proc/self/fd/${owned.raw}`, 'utf8'))
}
const works = async (): Promise<void> => {
  expect(await order(ORDER)).toMatchObject({ version: 2, answer: { containers: 1 } })
  expect(await maker.make()).toBe('ok')
}

describe('what is no order is refused in a sentence', () => {
  test.each([
    ['nothing of JSON', 'set c mknod', 'it is no object of JSON'],
    ['a list', '[]', 'it has version undefined'],
    [
      'another version',
      '{"version":3,"type":"set"}',
      "it has version 3, and this daemon takes 2; use the daemon's own",
    ],
    ['an unknown type', '{"version":2,"type":"exec"}', 'type is not what it must be'],
    ['an unknown member', '{"version":2,"type":"reload","dry":true,"quick":true}', 'quick is not what it must be'],
    ['a number for a text', '{"version":2,"type":"reload","dry":1}', 'dry is not what it must be'],
    [
      'a key of JavaScript',
      '{"version":2,"type":"set","container":"c","serial":1,"set":{"__proto__":{"mknod":"true"}},"unset":[]}',
      'it ended meanwhile',
    ],
    ['depth', '['.repeat(LIMIT), 'it is no object of JSON'],
    ['NULs', '\0'.repeat(100), 'it is no object of JSON'],
    ['more than it takes', 'x'.repeat(LIMIT + 1), 'it has more than 65536 bytes'],
    ['twice as much', 'x'.repeat(2 * LIMIT), 'it has more than 65536 bytes'],
  ])('%s', async (_, bytes, why) => {
    const said = await order(bytes)
    expect(said).toEqual({ version: 2, refusal: expect.stringMatching(/^Cannot /) })
    expect(said!.refusal).toContain(why)
    await works()
  })

  test('as much as it takes is read', async () => {
    expect(await order(ORDER.padEnd(LIMIT))).toMatchObject({ answer: { containers: 1 } })
  })

  test('random bytes, and random changes of an order', { timeout: 60_000 }, async () => {
    const end = Date.now() + 3000
    let count = 0
    while (Date.now() < end) {
      const bytes = Buffer.from(ORDER)
      for (let change = 0; change < 3; change++)
        bytes[Math.floor(Math.random() * bytes.length)] = Math.floor(Math.random() * 256)
      expect(await order(bytes)).toMatchObject({ version: 2 })
      count++
    }
    expect(count).toBeGreaterThan(50)
    await works()
  })
})

test('descriptors that are sent along are closed', async () => {
  const [one, other] = socketpair()
  using _kept = one
  const before = descriptors()
  const many = Array.from({ length: 250 }, () => dup(other))
  for (let round = 0; round < 20; round++) expect(await order(ORDER, many)).toMatchObject({ version: 2 })
  for (const fd of [...many, other]) fd[Symbol.dispose]()
  await until('all are closed', () => descriptors() <= before)
  // The other end is closed everywhere.
  expect(waitReadable(one, 1000)).toBe(true)
  await works()
})

test('500 clients that never send, or never read, take a few descriptors and no memory', {
  timeout: 120_000,
}, async () => {
  await works()
  const [before, mebibytes] = [descriptors(), memory()]
  const silent = Array.from({ length: 500 }, () => connectUnix(path(), 'packet'))
  await until('they are accepted', () => descriptors() >= before + 10)
  await works()
  expect(descriptors()).toBeLessThanOrEqual(before + 20)
  const deaf = Array.from({ length: 500 }, () => connectUnix(path(), 'packet'))
  for (const each of deaf) {
    try {
      send(each, Buffer.from(ORDER), [], MSG_DONTWAIT)
    } catch {
      // It was closed as the oldest silent one.
    }
  }
  await works()
  expect(memory() - mebibytes).toBeLessThan(64)
  for (const each of [...silent, ...deaf]) each[Symbol.dispose]()
  await until('all is as before', () => descriptors() <= before + 2)
})

test('no call of a container waits for clients', { timeout: 120_000 }, async () => {
  const time = async (count: number): Promise<number> => {
    const start = performance.now()
    for (let index = 0; index < count; index++) expect(await maker.make()).toBe('ok')
    return performance.now() - start
  }
  await time(20)
  const quiet = await time(100)
  let flooded = true
  const flood = (async () => {
    while (flooded) await order(ORDER)
  })()
  const busy = await time(100)
  flooded = false
  await flood
  console.log(`100 calls: ${quiet.toFixed()} ms, with orders all the time: ${busy.toFixed()} ms`)
  expect(busy).toBeLessThan(quiet * 10 + 1000)
})

/** Runs the connection in a program that changes who it is. */
const by = (
  [program, ...words]: readonly [string, ...string[]],
  before = '',
): Promise<{ readonly stdout: string; readonly stderr: string }> =>
  execute(program, [...words, 'perl', '-e', `${before}${CONNECT}`, path(), ORDER])

/** The words of perl that give the process a name which looks like another line of its status. */
const FORGE = '$0 = "\\rCapEff:200000"; '

describe('nobody else gives orders', () => {
  test('a user of the host cannot connect', async () => {
    expect((await by(['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'])).stdout).toBe(
      'refused: Permission denied',
    )
  })

  test("a container's root with the socket cannot connect", async () => {
    const options = ['--userns', USERNS, '--pidns', '--await-agent', '--']
    expect((await by([fixture('filtered'), daemon.socket, ...options])).stdout).toBe('refused: Permission denied')
  })

  test('whoever could connect is refused, but for root of the host', async () => {
    // As if an administrator had opened it.
    chmodSync(path(), 0o666)
    try {
      for (const who of [
        ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'],
        // Root of the host by number, in a user namespace of a container.
        ['unshare', '--user', '--map-users=0:0:1', '--map-groups=0:0:1'],
        // Root of a container without a user namespace.
        ['setpriv', '--bounding-set=-sys_admin'],
      ] as const) {
        expect((await by(who)).stdout).toBe('answered: answer')
        const seen = daemon.log.filter(({ message }) => String(message).startsWith('Cannot take an order'))
        expect(seen.length).toBeGreaterThan(0)
      }
      expect((await by(['setpriv', '--bounding-set=-sys_admin'], FORGE)).stdout).toBe('answered: answer')
    } finally {
      chmodSync(path(), 0o600)
    }
    const said = daemon.log.map(({ message }) => String(message)).filter((each) => each.includes('take an order'))
    expect(said[0]).toContain('only root may, not user 65534')
    expect(said[1]).toContain('it is in another user namespace than the daemon')
    for (const at of [2, 3]) expect(said[at]).toContain('it lacks CAP_SYS_ADMIN')
    const { status } = await execute(process.execPath, [CLI, 'reload', '--dry-run', '--control', path()])
    expect(status).toBe(0)
  })
})

test('the daemon is as it was', async () => {
  expect(keeper()).toBeGreaterThan(0)
  await until('the log has no error', () => daemon.log.every(({ level }) => level !== 'error'), START_S)
  await works()
})
