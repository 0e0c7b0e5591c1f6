import { spawn } from 'node:child_process'
import { createServer, request } from 'node:http'
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { execute, Host, until } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'
import { Web } from '../../support/web.ts'

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  readonly text: string
}

let host: Host
let web: Web
beforeAll(async () => {
  host = await Host.start()
  web = await Web.start(host.feedSocket)
})
afterAll(async () => {
  await web?.end()
  host?.close()
})

const tokenOf = ({ url }: Web): string => url.hash.slice('#token='.length)

/** @param of below the secret path, unless it begins with a slash */
function ask(of: string, headers: object = {}, method = 'GET', { url } = web, body?: string): Promise<Answer> {
  const path = of.startsWith('/') ? of : `${url.pathname}${of}`
  return new Promise((resolve, reject) => {
    const options = { host: url.hostname, port: url.port, path, method, headers: { host: url.host, ...headers } }
    const asking = request({ ...options, agent: false }, (response) => {
      let text = ''
      response.on('data', (chunk: Buffer) => (text += chunk.toString()))
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, text }))
      response.on('error', reject)
    })
    asking.on('error', reject)
    asking.end(body)
  })
}

const enter = (token: string, at = web): Promise<Answer> => ask('enter', { 'x-intercede-token': token }, 'POST', at)
let cookie = ''
const proofOf = ({ headers }: Answer): unknown => headers['x-intercede-proof']

test('nobody gets data or the proof without the cookie, and a wrong token gives none', async () => {
  for (const path of ['containers', 'containers/1', 'daemon', 'doctor', 'history/7', 'events', 'nothing']) {
    for (const headers of [{}, { cookie: 'intercede=' }, { cookie: `intercede=${tokenOf(web)}` }]) {
      const answer = await ask(path, headers)
      expect([path, answer.status, proofOf(answer)]).toEqual([path, 401, undefined])
    }
  }
  for (const token of ['', 'x', tokenOf(web).replace(/.$/, '_'), `${tokenOf(web)}x`]) {
    const answer = await enter(token)
    expect([answer.status, answer.headers['set-cookie'], proofOf(answer)]).toEqual([401, undefined, undefined])
  }
})

test('the token admits one browser; its cookie is for the secret path, and no script reads it', async () => {
  const answer = await enter(tokenOf(web))
  expect(answer.status).toBe(200)
  const [set] = answer.headers['set-cookie']!
  expect(set).toMatch(new RegExp(`^intercede=[\\w-]{43}; HttpOnly; SameSite=Strict; Path=${web.url.pathname}$`))
  cookie = set!.split(';')[0]!
  expect((await enter(tokenOf(web))).status).toBe(401)
  const again = await ask('enter', { cookie }, 'POST')
  expect([again.status, proofOf(again)]).toEqual([200, proofOf(answer)])
  const asked = await ask('containers', { cookie: `other=1; ${cookie}` })
  expect([asked.status, proofOf(asked)]).toEqual([200, proofOf(answer)])
  expect(JSON.parse(asked.text)).toMatchObject({ containers: [] })
  expect(String(proofOf(asked))).toMatch(/^[\w-]{43}$/)
  for (const secret of [tokenOf(web), web.url.pathname.slice(1, -1), cookie.split('=')[1]!])
    expect(String(proofOf(asked))).not.toBe(secret)
})

test('of a daemon without history, that of another one is not shown', async () => {
  const { status, text } = await ask('history/0', { cookie })
  expect([status, text]).toEqual([503, expect.stringContaining('the daemon keeps none, as history.path says')])
})

test('whoever asks seldom gets the rates of calls, too', async () => {
  const rates = async (): Promise<unknown> => JSON.parse((await ask('containers', { cookie })).text).rates
  for (let times = 0; times < 3; times++) {
    await rates()
    // The daemon is asked for its memories again after 1.5 seconds without a look.
    await new Promise((resolve) => setTimeout(resolve, 2000))
  }
  expect(await rates()).toEqual([])
})

test.each([
  ['a name that leads to us, as of DNS rebinding', 403, { host: 'evil.example:80' }],
  ['no name of this machine', 403, { host: '-' }],
  ['a name like ours', 403, { host: 'localhost.evil.example' }],
  ['a page of another origin', 403, { origin: 'http://evil.example' }],
  ['a page of another port', 403, { origin: 'http://127.0.0.1:1' }],
  ['a page without an origin, as in a frame', 403, { origin: 'null' }],
  ['another site', 403, { 'sec-fetch-site': 'cross-site' }],
  ['another port of this machine', 403, { 'sec-fetch-site': 'same-site' }],
  ['a frame of another site', 403, { 'sec-fetch-site': 'cross-site', 'sec-fetch-dest': 'iframe' }],
  ['our page', 200, { 'sec-fetch-site': 'same-origin' }],
  ['a tunnel with another port', 200, { host: 'localhost:8080', origin: 'http://localhost:8080' }],
  ['a program', 200, {}],
])('with the cookie, %s gets %d', async (_, status, headers) => {
  const answer = await ask('daemon', { cookie, ...headers })
  expect(answer.status).toBe(status)
  if (status !== 200) expect(proofOf(answer)).toBeUndefined()
})

test('a link leads to the page, but to nothing else of it', async () => {
  const link = { 'sec-fetch-site': 'cross-site', 'sec-fetch-dest': 'document' }
  expect((await ask('', link)).status).toBe(200)
  expect((await ask('containers', { cookie, ...link })).status).toBe(403)
  expect((await ask('page.js', link)).status).toBe(403)
})

test('600 connections of others, each opened again when it is closed, do not keep the browser out', async () => {
  const { port, hostname } = web.url
  const open = `require('node:net').connect(${port}, '${hostname}').resume().on('error', () => {}).on('close', open)`
  const attack = spawn(process.execPath, ['-e', `const open = () => ${open}; for (let n = 0; n < 600; n++) open()`])
  try {
    // It hangs up on one of ours, too: the limit is reached.
    const stranger = connect(Number(port), hostname).resume()
    await new Promise((resolve) => stranger.on('error', () => {}).on('close', resolve))
    let answered = 0
    for (let times = 0; times < 20; times++)
      await ask('containers', { cookie }).then(
        ({ status }) => (answered += Number(status === 200)),
        () => {},
      )
    expect(answered).toBeGreaterThan(15)
  } finally {
    attack.kill('SIGKILL')
  }
})

test('there is nothing outside of the secret path, and nothing else in it', async () => {
  const outside = ['/', '/metrics', '/v1/containers', '/page.js', `${web.url.pathname.slice(0, -1)}`, '/../etc/passwd']
  for (const path of outside) expect([path, (await ask(path, { cookie })).status]).toEqual([path, 404])
  for (const path of [
    'constructor',
    '__proto__',
    '../page.js',
    'containers/x',
    'v1/containers',
    'page.html',
    'metrics',
  ])
    expect([path, (await ask(path, { cookie })).status]).toEqual([path, 404])
  expect((await ask('containers/1', { cookie })).status).toBe(404)
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'HEAD'])
    expect([method, (await ask('containers', { cookie }, method)).status]).toEqual([method, 405])
  expect((await ask('enter', { cookie })).status).toBe(405)
})

test('whoever does not know the path does not learn it', async () => {
  const { pathname, port } = web.url
  for (const path of ['/', '/x', `${pathname.slice(0, -2)}_/`, `/x${pathname}`])
    for (const host of [`127.0.0.1:${port}`, 'evil.example']) {
      const { status, headers, text } = await ask(path, { host })
      expect([path, status]).toEqual([path, host === 'evil.example' ? 403 : 404])
      expect(`${JSON.stringify(headers)}${text}`).not.toContain(pathname.slice(1, 20))
    }
})

test('its policy allows no inline code, no other host, no frame and no markup from text', async () => {
  const { headers, text } = await ask('')
  const policy = String(headers['content-security-policy'])
  expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
  expect(policy).toContain("frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
  expect(policy).not.toContain('unsafe')
  expect(headers).toMatchObject({ 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' })
  expect(text).not.toMatch(/https?:|<script>|style=/)
})

test('a report of the browser is told, as one line, and at most so many', async () => {
  expect((await ask('report', {}, 'POST', web, '{}')).status).toBe(401)
  const report = (text: string): Promise<Answer> => ask('report', { cookie }, 'POST', web, text)
  expect((await report('{"a":"\u001b[2J\n"}')).status).toBe(204)
  await until('it is told', () => web.said.includes('refused a part'))
  expect(web.said).not.toContain('\u001b')
  expect((await report('x'.repeat(9000))).status).toBe(413)
  for (let number = 0; number < 20; number++) await report('{}')
  expect(web.said.match(/refused a part/g)).toHaveLength(10)
})

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 0],
] as const)('%s ends it without a word, also with a stream: %d', async (signal, status) => {
  const other = await Web.start(host.feedSocket)
  const { headers } = await enter(tokenOf(other), other)
  const [own] = String(headers['set-cookie']).split(';')
  const { url } = other
  const stream = connect(Number(url.port), url.hostname)
  let answered = ''
  stream.on('error', () => {}).on('data', (chunk) => (answered += chunk.toString()))
  stream.write(`GET ${url.pathname}events HTTP/1.1\r\nHost: ${url.host}\r\nCookie: ${own}\r\n\r\n`)
  await until('it streams', () => answered.includes(' 200 '))
  const { said } = other
  expect(await other.end(signal)).toBe(status)
  expect(other.said).toBe(said)
  await expect(ask('', {}, 'GET', other)).rejects.toThrow('ECONNREFUSED')
})

test('after its end, token and cookie open nothing of the next one at the same port', async () => {
  const first = await Web.start(host.feedSocket)
  const listen = ['--listen', `127.0.0.1:${first.url.port}`]
  await first.end()
  const second = await Web.start(host.feedSocket, ...listen)
  expect(second.url.port).toBe(first.url.port)
  expect((await enter(tokenOf(first), first)).status).toBe(404)
  expect((await enter(tokenOf(first), second)).status).toBe(401)
  await second.end()
})

test.each(['0.0.0.0:9471', '192.0.2.1:9471', '[::]:9471', 'localhost:9471', '127.0.0.1'])(
  'it does not listen at %s',
  async (address) => {
    const { status, stdout, stderr } = await execute(process.execPath, [CLI, 'web', '--listen', address])
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(/only at 127\.0\.0\.1 and ::1|must be an address and a port, such as 127\.0\.0\.1:9471/)
  },
)

test('a port that is taken is an error', async () => {
  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  const { port } = taken.address() as { port: number }
  const { status, stderr } = await execute(process.execPath, [CLI, 'web', '--listen', `127.0.0.1:${port}`])
  taken.close()
  expect([status, stderr]).toEqual([
    125,
    expect.stringMatching(/^intercede: Cannot serve the page at \S+: another program has that port; name another\n$/),
  ])
})
