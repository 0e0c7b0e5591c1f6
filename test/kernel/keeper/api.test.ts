import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Api } from '../../support/api.ts'
import { CLI, Daemon, Maker } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { Host, until } from '../../support/host.ts'

/** What a container may call a file: it shall reach no terminal as it is. */
const HOSTILE = Buffer.from([...Buffer.from('a\u001b[2Jb\nc"'), 0xff]).toString('latin1')

/** The unit may have 256 MiB. */
const MOST = 192 * 1024 * 1024

let host: Host
let api: Api
let isOver = false
let container: Promise<unknown>
beforeAll(async () => {
  host = await Host.start()
  api = await Api.start(host.feedSocket)
  const calls = `cd ${host.directory}; n=$(printf 'a\\033[2Jb\\nc"\\377')
${fixture('caller')} mknod "$n" 020666 1 3; ${fixture('caller')} mknod "$n" 020666 1 1
${fixture('caller')} mknod mem 020666 1 1; ${fixture('caller')} mknod tun 020666 10 200; while [ ! -e stop ]; do sleep 0.1; done`
  const ended = host.run([], ['sh', '-c', calls])
  await until('it has made its calls', async () => (await api.ask('/v1/refusals')).text.includes('1:1'))
  container = ended.then(() => (isOver = true))
})
afterAll(async () => {
  expect(isOver).toBe(false)
  writeFileSync(join(host.directory, 'stop'), '')
  await container
  await api?.close()
  host?.close()
})

interface OpenApi {
  readonly paths: Readonly<Record<string, { readonly get: Operation }>>
  readonly components: { readonly schemas: object }
}
interface Operation {
  readonly responses: Readonly<
    Record<string, { readonly content: Readonly<Record<string, { readonly schema: object }>> }>
  >
}

/** Checks answers against the document that the server gives out. */
class Document {
  readonly paths: OpenApi['paths']
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true })

  constructor(text: string) {
    const document = JSON.parse(text) as OpenApi
    this.paths = document.paths
    addFormats.default(this.#ajv)
    this.#ajv.addSchema({ $id: 'doc', components: document.components })
  }

  /** @returns what is wrong with a value */
  complaints(path: string, status: number, type: string, value: unknown): unknown {
    const content = this.paths[path]!.get.responses[status]?.content[type.split(';')[0]!]
    if (!content) return `no answer of type ${type} with status ${status}`
    const schema = JSON.parse(JSON.stringify(content.schema).replaceAll('#/components', 'doc#/components')) as object
    const isGood = this.#ajv.validate(schema, value)
    return isGood ? [] : this.#ajv.errors
  }
}
const document = async (): Promise<Document> => new Document((await api.ask('/openapi.json')).text)
const id = async (): Promise<string> => JSON.parse((await api.ask('/v1/containers')).text)[0].id

test('every answer is what the OpenAPI document says', async () => {
  const doc = await document()
  const asked = Object.keys(doc.paths)
  expect(asked).toEqual([
    ...['/metrics', '/v1/status', '/v1/containers', '/v1/containers/{id}', '/v1/containers/{id}/refusals'],
    ...['/v1/refusals', '/v1/events', '/v1/reasons', '/openapi.json'],
  ])
  for (const path of asked) {
    const address = `${path.replace('{id}', await id())}${path === '/v1/events' ? '?follow=false' : ''}`
    const { status, type, text } = await api.ask(address)
    expect({ path, status }).toEqual({ path, status: 200 })
    const lines = text.trim().split('\n')
    const isJson = type.startsWith('application/json')
    const values = isJson
      ? [JSON.parse(text)]
      : type.includes('ndjson')
        ? lines.map((line) => JSON.parse(line))
        : [text]
    expect(values.length).toBeGreaterThan(0)
    for (const value of values) expect(doc.complaints(path, status, type, value)).toEqual([])
    const head = await api.ask(address, { method: 'HEAD' })
    expect({ path, status: head.status, type: head.type, text: head.text }).toEqual({ path, status, type, text: '' })
  }
  const [shown] = JSON.parse((await api.ask('/v1/containers?all=true')).text)
  expect(doc.complaints('/v1/containers', 200, 'application/json', [{ ...shown, more: 1 }])).not.toEqual([])
})

test.each([
  { path: '/v1/containers/nobody', of: '/v1/containers/{id}', status: 404, says: /no container has that id or name/ },
  { path: '/v1/containers/%ff', of: '/v1/containers/{id}', status: 400, says: /stands for no byte/ },
  { path: '/v1/events?tail=x', of: '/v1/events', status: 400, says: /tail="x"/ },
  { path: '/v1/events?after=1', of: '/v1/events', status: 400, says: /no cursor/ },
  { path: '/v1/events?container=nobody', of: '/v1/events', status: 404, says: /nobody/ },
  { path: '/v1/containers?all=1', of: '/v1/containers', status: 400, says: /true or false/ },
  { path: '/v1/containers?some=1', of: '/v1/containers', status: 400, says: /no such parameter/ },
  { path: '/etc/passwd', of: '/metrics', status: 404, says: /no such path/ },
  { path: '/metrics', headers: { host: 'evil.example' }, of: '/metrics', status: 403, says: /Host/ },
  { path: '/metrics', headers: { host: 'localhost.evil.example' }, of: '/metrics', status: 403, says: /Host/ },
  {
    path: '/metrics',
    headers: { host: 'localhost', origin: 'http://localhost' },
    of: '/metrics',
    status: 403,
    says: /Origin/,
  },
  { path: '/metrics', method: 'DELETE', of: '/metrics', status: 405, says: /GET/ },
])('$path ($headers $method) is answered with $status', async ({ path, of, status, says, ...options }) => {
  const answer = await api.ask(path, options)
  expect(answer.status).toBe(status)
  expect((await document()).complaints(of, status, answer.type, JSON.parse(answer.text))).toEqual([])
  expect(JSON.parse(answer.text).error).toMatch(/^Cannot .*; /)
  expect(JSON.parse(answer.text).error).toMatch(says)
})

test('a request with a body is answered with 413, however it is sent', async () => {
  const headers = { host: 'localhost', connection: 'close' }
  expect((await api.ask('/v1/containers', { method: 'POST', headers }, 'x')).status).toBe(413)
  const chunked = { ...headers, 'transfer-encoding': 'chunked' }
  expect((await api.ask('/v1/containers', { method: 'GET', headers: chunked }, 'x')).status).toBe(413)
  const expecting = { ...headers, expect: '100-continue', 'content-length': '1' }
  expect((await api.ask('/v1/containers', { method: 'PUT', headers: expecting }, 'x')).status).toBe(413)
})

test('a text of a container reaches nobody as it is', async () => {
  for (const path of [
    '/v1/containers',
    `/v1/containers/${await id()}`,
    '/v1/refusals',
    '/v1/events?follow=false',
    '/metrics',
  ]) {
    const { text } = await api.ask(path)
    expect({ path, raw: /[^\n -~]/.test(text) }).toEqual({ path, raw: false })
    expect(text).not.toContain(HOSTILE)
  }
  expect((await api.ask('/v1/events?follow=false')).text).toContain(String.raw`a\\033[2Jb\\012c\\\"\\377`)
})

test('events are streamed as they happen, of one container if that is asked for', async () => {
  const chunks: string[] = []
  const socket = connect(api.socket)
  socket.on('data', (chunk) => chunks.push(chunk.toString()))
  socket.write(`GET /v1/events?tail=0&container=${await id()} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
  await until('it begins', () => chunks.join('').includes('200 OK'))
  expect(chunks.join('')).not.toContain('"syscall"')
  await host.call(['mknod', join(host.directory, 'other'), '020666', '1', '3'])
  process.kill(host.enginePid, 0)
  await new Promise((resolve) => setTimeout(resolve, 500))
  expect(chunks.join('')).not.toContain('"syscall"')
  socket.destroy()
  const all: string[] = []
  const other = connect(api.socket)
  other.on('data', (chunk) => all.push(chunk.toString()))
  other.write('GET /v1/events?tail=0 HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await until('it begins too', () => all.join('').includes('200 OK'))
  await host.call(['mknod', join(host.directory, 'another'), '020666', '1', '3'])
  await until('it is told', () => all.join('').includes('another'))
  other.destroy()
})

test('a connection has one stream of events: what is asked for behind it would fill the memory', async () => {
  const socket = connect(api.socket)
  let said = ''
  socket.on('data', (chunk) => (said += chunk.toString()))
  socket.write('GET /v1/events?follow=false HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(2))
  await until('both are answered', () => said.includes('open another one'))
  expect(said.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 429'])
  socket.destroy()
})

test('a stream behind an answer that nobody reads ends with its connection', async () => {
  const descriptors = (): number => readdirSync(`/proc/${api.child.pid}/fd`).length
  const before = descriptors()
  const begun = Array.from({ length: 20 }, () => connect(api.socket).on('error', () => {}))
  const request = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`
  for (const socket of begun)
    socket.pause().write(`${request('/openapi.json').repeat(14)}${request('/v1/events?tail=0')}`)
  await until('the streams have begun', () => descriptors() >= before + 20 * 3)
  for (const socket of begun) socket.destroy()
  await until('they have ended', () => descriptors() <= before)
})

const opened = (count: number): Promise<readonly Socket[]> =>
  Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<Socket>((resolve) => {
          const socket = connect(api.socket)
          socket.on('error', () => resolve(socket))
          socket.on('connect', () => resolve(socket))
        }),
    ),
  )
const isAnswering = (): Promise<boolean> =>
  api.ask('/v1/status').then(
    ({ status }) => status === 200,
    () => false,
  )
const closed = async (sockets: readonly Socket[]): Promise<void> => {
  for (const socket of sockets) socket.destroy()
  await until('it answers again', isAnswering)
}

test('500 clients: 64 are served, the others closed at once, and those that say nothing are closed soon', async () => {
  const sockets = await opened(500)
  let left = 500
  for (const socket of sockets) socket.on('close', () => left--).resume()
  await until('most are closed', () => left <= 64)
  expect(left).toBe(64)
  const descriptors = readdirSync(`/proc/${api.child.pid}/fd`).length
  expect(descriptors).toBeLessThan(64 + 40)
  await until('the others are closed', () => left === 0, 20)
  await closed(sockets)
})

test.each([
  { what: 'no HTTP', head: '\u0016\u0003\u0001\u0000\u0001\r\n\r\n', says: /^HTTP\/1\.1 400/ },
  {
    what: 'a head of more than 8 KiB',
    head: `GET / HTTP/1.1\r\nHost: localhost\r\nx: ${'y'.repeat(9000)}\r\n\r\n`,
    says: /^HTTP\/1\.1 431/,
  },
  {
    what: 'two lengths',
    head: 'GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
    says: /^HTTP\/1\.1 400/,
  },
  { what: 'no host', head: 'GET /metrics HTTP/1.0\r\n\r\n', says: /^HTTP\/1\.1 403/ },
  {
    what: 'a whole address',
    head: 'GET http://evil/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n',
    says: /^HTTP\/1\.1 404/,
  },
  { what: 'a wish to connect on', head: 'CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n', says: /^$/ },
  { what: 'a head that never ends', head: 'GET /metrics HTTP/1.1\r\n', says: /^HTTP\/1\.1 408/ },
])('$what ends the connection', async ({ head, says }) => {
  const socket = connect(api.socket)
  let said = ''
  let isClosed = false
  socket
    .on('data', (chunk) => (said += chunk.toString()))
    .on('close', () => (isClosed = true))
    .on('error', () => {})
  socket.write(head)
  await until('it is closed', () => isClosed, 20)
  expect(said).toMatch(says)
  expect(await isAnswering()).toBe(true)
})

test('clients that never read take bounded memory; of a stream they are cut off, which is counted', async () => {
  await isAnswering()
  const sockets = await opened(60)
  for (const socket of sockets) {
    socket.pause()
    for (let again = 0; again < 100; again++) socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n')
  }
  let most = 0
  for (let look = 0; look < 30; look++) {
    await new Promise((resolve) => setTimeout(resolve, 50))
    most = Math.max(most, api.memory)
  }
  expect(most).toBeLessThan(MOST)
  await closed(sockets)
  const stuck: Socket[] = []
  // On a slow machine the daemon, which is in this process, may answer too late, and so a stream with 503.
  await until('three streams have begun', async () => {
    const [socket] = await opened(1)
    socket!.write('GET /v1/events?tail=0 HTTP/1.1\r\nHost: localhost\r\n\r\n')
    const [head] = await once(socket!, 'data')
    if (String(head).startsWith('HTTP/1.1 200 ')) stuck.push(socket!.pause())
    return stuck.length === 3
  })
  await host.run([], [fixture('mknod-loop'), '--count', '10000', join(host.directory, 'flood')])
  await until('they are cut off', async () => /cut_off_total 3/.test((await api.ask('/metrics')).text), 30)
  const others = api.said.split('\n').filter((line) => line !== '' && !line.endsWith('did not read, and was cut off'))
  expect(others).toEqual([])
  expect(api.memory).toBeLessThan(MOST)
  await closed(stuck)
})

/** What requests are made of, whole or cut, in any order. */
const PIECES = [
  ...['GET ', 'POST ', '/metrics', '/v1/events?', '/v1/containers/', '%', '?all=', ' HTTP/1.1\r\n', ' HTTP/9.9\r\n'],
  ...['Host: localhost\r\n', 'Content-Length: 99999999999\r\n', 'Transfer-Encoding: chunked\r\n', 'Upgrade: h2c\r\n'],
  ...[
    'Expect: 100-continue\r\n',
    'Connection: keep-alive, Upgrade\r\n',
    '\r\n',
    '\r\n\r\n',
    '0\r\n\r\n',
    'ffffffffffffffff\r\n',
  ],
  ...['\u0000', '\u001b[2J', 'x'.repeat(4096), ': ', '\n'],
]
const FUZZ_S = Number(process.env.INTERCEDE_FUZZ_SECONDS ?? 5)

test('garbage of all sorts, for seconds, takes bounded memory and ends nothing', {
  timeout: 60_000 + 1000 * FUZZ_S,
}, async () => {
  const answers = new Set<string>()
  let count = 0
  for (const end = Date.now() + 1000 * FUZZ_S; Date.now() < end; ) {
    const sockets = await opened(20)
    for (const socket of sockets) {
      socket.on('data', (chunk) => answers.add(chunk.toString('latin1', 0, 12)))
      const pieces = Array.from(
        { length: 1 + Math.random() * 12 },
        () => PIECES[Math.floor(Math.random() * PIECES.length)]!,
      )
      const isMeant = Math.random() < 0.3
      socket.write(`${isMeant ? 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n' : ''}${pieces.join('')}`, 'latin1')
      count++
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
    for (const socket of sockets) socket.destroy()
  }
  await until('it answers again', isAnswering)
  console.log(count, 'connections', [...answers].sort())
  expect([...answers].some((answer) => answer.startsWith('HTTP/1.1 400'))).toBe(true)
  expect([...answers].filter((answer) => answer.startsWith('HTTP/1.1 5'))).toEqual([])
  expect(api.memory).toBeLessThan(MOST)
})

test('without a daemon it says so, and goes on when there is one again', async () => {
  const other = await Host.start()
  const own = await Api.start(other.feedSocket)
  try {
    expect((await own.ask('/v1/status')).status).toBe(200)
    other.close()
    const { status, text } = await own.ask('/v1/status')
    expect(status).toBe(503)
    expect(JSON.parse(text).error).toMatch(/start the service or "intercede serve"/)
  } finally {
    await own.close()
  }
})

test('a key that a ceiling lowers is as the OpenAPI document says', async () => {
  const daemon = await Daemon.start('ceiling: { mknod: false }')
  const own = await Api.start(join(daemon.directory, 'feed.sock'))
  const maker = new Maker(daemon, ['--id', 'low', '--metadata', 'security.syscalls.intercept.mknod=true'])
  try {
    await maker.make()
    const { text } = await own.ask('/v1/containers/low')
    const detail = JSON.parse(text)
    expect(detail.keys.mknod).toMatchObject({ value: 'false', ceiling: 'false', asked: 'true' })
    expect((await document()).complaints('/v1/containers/{id}', 200, 'application/json', detail)).toEqual([])
  } finally {
    maker.end()
    await own.close()
    await daemon.close()
  }
})

test('of a daemon that is stopped it says within seconds that it does not answer, and keeps nobody waiting', async () => {
  const daemon = await Daemon.start()
  const own = await Api.start(join(daemon.directory, 'feed.sock'))
  try {
    expect((await own.ask('/v1/status')).status).toBe(200)
    process.kill(daemon.pid!, 'SIGSTOP')
    // Nobody asks meanwhile, so nobody sees when its last beat came.
    await new Promise((resolve) => setTimeout(resolve, 2500))
    for (const path of ['/v1/status', '/v1/containers', '/v1/refusals', '/metrics', '/v1/events?follow=false']) {
      const { status, text } = await own.ask(path)
      expect(status, path).toBe(503)
      expect(JSON.parse(text).error).toMatch(/the daemon does not answer: it hangs, is stopped, or starts; see/)
    }
    const start = Date.now()
    for (let again = 0; again < 20; again++) expect((await own.ask('/v1/status')).status).toBe(503)
    expect(Date.now() - start).toBeLessThan(10_000)
    process.kill(daemon.pid!, 'SIGCONT')
    await until('its beat shows that it goes on', async () => (await own.ask('/v1/status')).status === 200)
    // Somebody asks all the time.
    process.kill(daemon.pid!, 'SIGSTOP')
    const stopped = Date.now()
    await until('it says so again', async () => (await own.ask('/v1/status')).status === 503)
    expect(Date.now() - stopped).toBeLessThan(10_000)
    process.kill(daemon.pid!, 'SIGCONT')
    for (const path of ['/v1/events?follow=false', '/metrics', '/v1/status'])
      await until('it answers again', async () => (await own.ask(path)).status === 200)
  } finally {
    process.kill(daemon.pid!, 'SIGCONT')
    await own.close()
    await daemon.close()
  }
})

test('its process maps nothing of the daemon that it may write', () => {
  const maps = readFileSync(`/proc/${api.child.pid}/maps`, 'latin1')
  expect(maps.split('\n').filter((line) => /memfd:intercede/.test(line))).toEqual([])
})

test('--listen serves metrics, and nothing else, by the address that it names', async () => {
  const free = createServer()
  const port = await new Promise<number>((resolve) =>
    free.listen(0, '127.0.0.2', () => resolve((free.address() as AddressInfo).port)),
  )
  await new Promise((resolve) => free.close(resolve))
  const open = await Api.start(host.feedSocket, '--listen', `127.0.0.2:${port}`)
  try {
    const ask = (path: string, name: string) =>
      open.ask(path, { socketPath: undefined, host: '127.0.0.2', port, headers: { host: name } })
    const answer = await ask('/metrics', `127.0.0.2:${port}`)
    expect(answer.status).toBe(200)
    expect(answer.text).toContain('intercede_build_info{')
    expect((await ask('/metrics', 'localhost')).status).toBe(200)
    // A page that a browser took from evil.example can make that name lead to any address.
    for (const name of ['evil.example', `evil.example:${port}`, '127.0.0.2', '127.0.0.1', `127.0.0.1:${port}`])
      expect((await ask('/metrics', name)).status, name).toBe(403)
    for (const path of ['/v1/containers', '/openapi.json', '/'])
      expect((await ask(path, `127.0.0.2:${port}`)).status, path).toBe(403)
  } finally {
    await open.close()
  }
})

test.each(['9470', ':9470', 'localhost:9470', '127.0.0.1:0', '127.0.0.1:65536', '::1:', '[::1:9470'])(
  '--listen refuses %s',
  async (address) => {
    const { status, stderr } = spawnSync(process.execPath, [CLI, 'api', '--listen', address], { encoding: 'utf8' })
    expect(status).toBe(2)
    expect(stderr).toContain('it must be an address and a port, such as 192.0.2.1:9470;')
  },
)
