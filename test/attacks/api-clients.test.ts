// Whoever may connect to `intercede api`, and at a port that is every local user, shall take nothing from others who ask.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Tid } from '../../src/abi/brand.ts'
import type { ReasonCode } from '../../src/calls/reasons.ts'
import type { VerdictName } from '../../src/calls/record.ts'
import { map, memfd, readOnly } from '../../src/kernel/shared-memory.ts'
import { accept, listenUnix, send } from '../../src/kernel/socket.ts'
import { CountPlaces } from '../../src/memories/count-places.ts'
import { CountWriter } from '../../src/memories/count-writer.ts'
import { countsSize, formatCounts } from '../../src/memories/counts-layout.ts'
import { DIRECTORY_SIZE, DirectoryWriter, formatDirectory } from '../../src/memories/directory.ts'
import { feedAnswer } from '../../src/memories/feed-answer.ts'
import { formatRecords, recordsSize } from '../../src/memories/records.ts'
import { missing } from '../support/fixtures.ts'
import { until } from '../support/host.ts'
import { CLI } from '../support/machine.ts'
import { withReason } from '../support/skipped.ts'

const cannot = missing('perl')
const CONTAINERS = 1000
/** Kinds of refused calls of each of the first 700; 64 of them are kept. */
const [REFUSING, KINDS] = [700, 300]
/** Of x86_64. */
const MKNODAT = 259
/** Its unit may have 256 MiB. */
const MOST = 192 * 1024 * 1024
/** So many times as long as alone a question may take beside 600 others; each used to wait for all. */
const TIMES = 40
/** How long made metrics are given out again, and more. */
const MADE_MS = 1500
/** How often what is too slow is measured at most. */
const ATTEMPTS = 3
/** In milliseconds, on a busy machine. */
const SOON = 5000

const scratch = mkdtempSync(join(tmpdir(), 'intercede-clients-'))
const [feed, view] = [join(scratch, 'feed.sock'), join(scratch, 'view.sock')]

/** What a daemon with a thousand containers shows, of which no container is there. */
function shown(): Disposable {
  const [records, counts, directory] = [recordsSize(1024), countsSize(1024), DIRECTORY_SIZE].map((size) =>
    memfd('t', size),
  )
  formatRecords(map(records!))
  const memory = map(counts!)
  formatCounts(memory)
  const about = map(directory!)
  formatDirectory(about)
  const [places, writer, calls] = [
    new CountPlaces(counts!, memory),
    new DirectoryWriter(about),
    new CountWriter(memory),
  ]
  const registers = new Int32Array(12)
  const texts = { bytes: Buffer.from(`\u0001\u007e${'\u0001'.repeat(126)}`), length: 128 }
  for (let index = 0; index < CONTAINERS; index++) {
    const serial = index + 1
    const id = `${String(serial).padStart(4, '0')}${'a'.repeat(60)}`
    writer.container(index, { id, serial, index, runtime: 'crun', name: `name-${serial}`, listeners: 1, on: ['mknod'] })
    places.take({ index, serial })
    const count = (nr: number, verdict: VerdictName, reason: ReasonCode, a: number): void =>
      calls.count(
        {
          ...{ container: index, serial, nr, arch: 0xc000003e, tid: 7 as Tid, verdict, errno: 0, reason },
          ...{ a, b: 1, microseconds: 3, time: a },
        },
        { registers, from: 0, texts },
      )
    for (let nr = 0; nr < 12; nr++) count(nr, 'act', 'done', 0)
    for (let kind = 0; kind < (index < REFUSING ? KINDS : 3); kind++)
      count(MKNODAT, 'continue', 'deviceNotAllowed', kind)
  }
  writer.daemon({ version: '1 (build x)', containerLabel: true })
  const listening = listenUnix(feed, 'packet')
  const timer = setInterval(() => {
    writer.beat(process.pid)
    for (let asked = accept(listening); asked; asked = accept(listening)) {
      const given = [records!, counts!, directory!].map(readOnly)
      send(asked, feedAnswer(), given)
      for (const each of [asked, ...given]) each[Symbol.dispose]()
    }
  }, 20)
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

/** Passes a port and a socket on, as systemd does. */
const PASS = `$^F = 9; socket my $t, AF_INET, SOCK_STREAM, 0 or die $!; bind $t, sockaddr_in(0, INADDR_LOOPBACK) or die $!;
listen $t, 4096; socket my $u, AF_UNIX, SOCK_STREAM, 0 or die $!; bind $u, pack_sockaddr_un(shift) or die $!; listen $u, 4096;
$| = 1; print +(unpack_sockaddr_in(getsockname $t))[0], "\n"; @ENV{'LISTEN_PID', 'LISTEN_FDS'} = ($$, fileno($u) - fileno($t) + 1);
fileno($t) == 3 or die; exec @ARGV`

let daemon: Disposable | undefined
let api: ChildProcess
let port: number
beforeAll(async () => {
  if (cannot) return
  daemon = shown()
  const words = [process.execPath, CLI, 'api', '--feed', feed]
  api = spawn('perl', ['-MSocket', '-e', PASS, view, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '--max-old-space-size=128' },
  })
  const [said] = (await once(api.stdout!, 'data')) as [Buffer]
  port = Number(said.toString())
  await until('it answers', async () => (await ask('/v1/status')).status === 200)
})
afterAll(async () => {
  api?.kill('SIGKILL')
  daemon?.[Symbol.dispose]()
  rmSync(scratch, { recursive: true })
})

/** @returns status 0 if the connection is closed instead */
function ask(path: string, at: object = { socketPath: view }): Promise<{ status: number; text: string; took: number }> {
  const start = Date.now()
  return new Promise((resolve) => {
    const failed = (): void => resolve({ status: 0, text: '', took: Date.now() - start })
    const headers = { host: 'localhost' }
    const asking = request({ ...at, path, agent: false, headers, timeout: 60_000 }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', failed)
      response.on('end', () =>
        resolve({ status: response.statusCode!, text: Buffer.concat(chunks).toString(), took: Date.now() - start }),
      )
    })
    asking.on('error', failed).on('timeout', () => asking.destroy())
    asking.end()
  })
}
const scrape = () => ask('/metrics', { host: '127.0.0.1', port })

async function opened(count: number, at: string | number): Promise<readonly Socket[]> {
  const sockets = Array.from({ length: count }, () => (typeof at === 'string' ? connect(at) : connect(at, '127.0.0.1')))
  for (const socket of sockets) socket.on('error', () => {})
  await Promise.all(sockets.map((socket) => once(socket, 'connect').catch(() => {})))
  return sockets
}
const question = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`
const memory = (): number =>
  1024 * Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${api.pid}/status`, 'latin1'))![1])
/** @returns the most memory that it had while `act` ran */
async function most(act: () => Promise<unknown>): Promise<number> {
  let found = memory()
  const timer = setInterval(() => (found = Math.max(found, memory())), 20)
  await act()
  clearInterval(timer)
  return found
}

describe.skipIf(cannot)(withReason('clients of the api', cannot), { timeout: 120_000 }, () => {
  test('who hold all connections of the port take none from readers at the socket', async () => {
    const sockets = await opened(70, port)
    expect((await scrape()).status).toBe(0)
    const statuses: number[] = []
    for (let again = 0; again < 20; again++) statuses.push((await ask('/v1/reasons')).status)
    for (const socket of sockets) socket.destroy()
    expect(statuses).toEqual(Array(20).fill(200))
  })

  test('who ask for metrics 600 times at once delay no scrape', async () => {
    const attempt = async (): Promise<number> => {
      // By then they are made again.
      await new Promise((resolve) => setTimeout(resolve, MADE_MS))
      const alone = (await scrape()).took
      const sockets = await opened(40, port)
      for (const socket of sockets) socket.resume().write(question('/metrics').repeat(15))
      await new Promise((resolve) => setTimeout(resolve, 100))
      const [scraped, status] = await Promise.all([scrape(), ask('/v1/status')])
      for (const socket of sockets) socket.destroy()
      const { text, took } = scraped
      console.log('alone', alone, 'scrape', scraped.status, text.length, took, 'status', status.status, status.took)
      expect({ scraped: scraped.status, status: status.status }).toEqual({ scraped: 200, status: 200 })
      return Math.max(took, status.took) / alone
    }
    // What other programs do just then is over soon.
    let slower = await attempt()
    for (let again = 1; again < ATTEMPTS && slower >= TIMES; again++) slower = await attempt()
    expect(slower).toBeLessThan(TIMES)
  })

  test('who read no answers leave nothing behind when they go', async () => {
    for (let round = 0; round < 3; round++) {
      const sockets = await opened(40, port)
      for (const socket of sockets) socket.pause().write(question('/metrics').repeat(15))
      await new Promise((resolve) => setTimeout(resolve, 1100))
      for (const socket of sockets) socket.destroy()
    }
    expect((await scrape()).status).toBe(200)
  })

  test('who asks for all refusals gets them, and keeps nobody else waiting', async () => {
    let slowest = 0
    const used = await most(async () => {
      let isOver = false
      const all = ask('/v1/refusals').finally(() => (isOver = true))
      while (!isOver) {
        const other = await ask('/v1/reasons')
        expect(other.status).toBe(200)
        slowest = Math.max(slowest, other.took)
      }
      const { status, text, took } = await all
      console.log('refusals', status, text.length, took, 'others', slowest)
      expect(status).toBe(200)
      expect(JSON.parse(text).length).toBeGreaterThan(48 * REFUSING)
    })
    console.log('memory', used >> 20, 'MiB')
    expect(slowest).toBeLessThan(SOON)
    expect(used).toBeLessThan(MOST)
  })

  test('who reads all refusals slowly gets them, though others ask meanwhile', async () => {
    const [socket] = (await opened(1, view)) as [Socket]
    socket.pause().write('GET /v1/refusals HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    // So long no beat is believed: whoever asks then has the daemon asked.
    await new Promise((resolve) => setTimeout(resolve, MADE_MS + 500))
    expect((await ask('/v1/status')).status).toBe(200)
    let end = ''
    socket.resume().on('data', (chunk: Buffer) => (end = `${end}${chunk.toString('latin1')}`.slice(-20)))
    await once(socket, 'close')
    expect(end).toMatch(/\]\n\r\n0\r\n\r\n$/)
  })

  test('who ask for all refusals and do not read them take bounded memory', async () => {
    const sockets = await opened(60, view)
    const used = await most(async () => {
      for (const socket of sockets) socket.pause().write(question('/v1/refusals').repeat(15))
      await new Promise((resolve) => setTimeout(resolve, 4000))
    })
    console.log('memory', used >> 20, 'MiB')
    for (const socket of sockets) socket.destroy()
    expect(used).toBeLessThan(MOST)
    await until('it answers as before', async () => {
      const { status, took } = await ask('/v1/reasons')
      return status === 200 && took < SOON
    })
  })

  test('one refusal and all of one container are found among those of all others', async () => {
    const { status, took, text } = await ask(`/v1/containers/0700${'a'.repeat(60)}/refusals`)
    expect(status).toBe(200)
    expect(JSON.parse(text).length).toBeGreaterThan(48)
    expect(took).toBeLessThan(SOON)
  })
})
