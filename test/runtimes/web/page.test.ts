import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, createServer as createTunnel } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Locator, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture } from '../../support/fixtures.ts'
import { execute, USERNS, until } from '../../support/host.ts'
import { CLI, Machine } from '../../support/machine.ts'
import { ended, sh, start, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'
import { SLOWNESS } from '../../support/slowness.ts'
import { byUser } from '../../support/user.ts'
import { PATIENCE_MS, Viewer, Web, withoutChromium } from '../../support/web.ts'

const VIEWS = ['Containers', 'History', 'Daemon']
/** Markup, text from right to left, control characters, and more than a line. */
const MARKUP = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
const HOSTILE = `${MARKUP}\u202egnp\u0007`
const SHOWN = String.raw`${MARKUP}\342\200\256gnp\007`
const LONG = '<b>'.repeat(1365)

describe.skipIf(withoutChromium)(withReason('the page', withoutChromium), () => {
  const history = mkdtempSync(join(tmpdir(), 'intercede-history-'))
  const machine = new Machine()
  const feed = join(machine.directory, 'feed.sock')
  const containers: ChildProcess[] = []
  const webs: Web[] = []
  let web: Web
  let viewer: Viewer
  let page: Page

  async function serve(words: readonly string[] = [process.execPath, CLI, 'web', '--feed', feed]): Promise<Web> {
    const made = await Web.by(words)
    webs.push(made)
    return made
  }
  /** Starts a container that makes calls until all is over. */
  function contain(
    id: string,
    paths: readonly string[],
    annotations: readonly string[] = [],
    { metadata = 'security.syscalls.intercept.mknod=true', minor = 229 } = {},
  ): void {
    const more = annotations.flatMap((each) => ['--annotation', each])
    const own = ['--userns', USERNS, '--pidns', '--await-agent', '--id', id, ...more]
    const policy = ['--metadata', metadata]
    const calls = `cd ${machine.shared}; while :; do for p; do ${fixture('caller')} mknod "$p" 020666 10 200; ${fixture('caller')} mknod "$p" 020666 1 1
      ${fixture('caller')} mknod "$p" 020666 10 ${minor}; ${fixture('caller')} mknod "$p" 020666 1 3; rm -f "$p"; done; sleep 0.2; done >/dev/null 2>&1`
    const words = [machine.socket, ...own, ...policy, '--', 'sh', '-c', calls, 'sh', ...paths]
    containers.push(spawn(fixture('filtered'), words, { stdio: ['ignore', 'ignore', 'inherit'], detached: true }))
  }
  const see = (text: string | RegExp, of = page): Promise<void> => of.getByText(text).first().waitFor()
  const open = async (name: string): Promise<void> => {
    await page.getByRole('link', { name, exact: true }).click()
    await page.getByRole('heading', { name, level: 1, exact: true }).waitFor()
  }
  const isFocused = (locator: Locator): Promise<boolean> =>
    locator.evaluate((element) => element === element.ownerDocument.activeElement)

  beforeAll(async () => {
    await machine.serve(`history: { path: ${history} }\nprofiles: { shared: { mknod: true } }`)
    ;[web, viewer] = await Promise.all([serve(), Viewer.start()])
    page = await viewer.page({ permissions: ['clipboard-read', 'clipboard-write'], acceptDownloads: true })
    page.on('dialog', (dialog) => viewer.complaints.push(`a dialog: ${dialog.message()}`))
  })
  afterAll(async () => {
    await viewer?.close()
    for (const each of webs) await each.end()
    for (const { pid } of containers) if (pid) process.kill(-pid, 'SIGKILL')
    await machine.close()
    rmSync(history, { recursive: true })
  })

  test('without containers, each view says so, and what the token was is in no history', async () => {
    await page.goto(web.address)
    await see('No container is served.')
    expect(page.url()).toBe(`${web.url.origin}${web.url.pathname}#/`)
    expect(await viewer.flaws(page)).toEqual([])
    await open('History')
    await see('History has no refusals of this time.')
    expect(await viewer.flaws(page)).toEqual([])
    await open('Daemon')
    await see('listeners per container')
    await see('Nothing has happened yet.')
    await see('seccomp user notification')
    expect(await viewer.flaws(page)).toEqual([])
  })

  test('a reload needs no token, and a link to a container that is gone says so', async () => {
    await page.reload()
    await see('listeners per container')
    await page.goto(`${web.url.pathname}#/containers/12345`, { waitUntil: 'commit' }).catch(() => {})
    await page.evaluate("location.hash = '#/containers/12345'")
    await page.getByRole('alert').getByText('Cannot find the container').waitFor()
  })

  test('a container appears by itself, and is found, sorted and walked through by the keyboard', async () => {
    await open('Containers')
    contain('build', ['tun'], ['io.kubernetes.cri.image-name=registry.example/build:12'])
    await page.getByRole('link', { name: 'build' }).waitFor()
    contain('other', ['tun'])
    await page.getByRole('link', { name: 'other' }).waitFor()
    await page.reload()
    await page.getByRole('link', { name: 'other' }).waitFor()
    const visited: string[] = []
    const link = page.getByRole('link', { name: 'build' })
    for (let tabs = 0; tabs < 40 && !(await isFocused(link)); tabs++) {
      await page.keyboard.press('Tab')
      visited.push(String(await page.evaluate('document.activeElement.textContent || document.activeElement.type')))
      if (visited.at(-1) === 'search') await page.keyboard.type('BUILD')
      if (visited.at(-1) === 'Container') await page.keyboard.press('Enter')
    }
    expect(visited.slice(0, 5)).toEqual(['Skip to the content', 'Containers', 'History', 'Daemon', 'Save as PNG'])
    expect(visited).toContain('Save as CSV')
    expect(await page.getByRole('columnheader', { name: 'Container' }).getAttribute('aria-sort')).toBe('descending')
    expect(await page.getByRole('link', { name: 'other' }).count()).toBe(0)
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'build', level: 1 }).waitFor()
  })

  const noPictures = process.env.INTERCEDE_PICTURES ? undefined : 'INTERCEDE_PICTURES is not set'
  test.skipIf(noPictures)(withReason('the pictures of docs/guide/web.md', noPictures), async () => {
    // As on a machine with one daemon: no command names its socket.
    const usual =
      'mount -t tmpfs none /run && mkdir /run/intercede && mount --bind "$1" /run/intercede && shift && exec "$@"'
    const shown = await serve([
      'unshare',
      '--mount',
      'sh',
      '-c',
      usual,
      'sh',
      machine.directory,
      process.execPath,
      CLI,
      'web',
    ])
    const pictured = await viewer.page({ viewport: { width: 960, height: 760 } })
    await pictured.goto(shown.address)
    await pictured.getByRole('link', { name: 'build' }).click()
    const start = Date.now()
    await until('the plots have lines', () => Date.now() - start > 50_000, 60)
    for (const colorScheme of ['light', 'dark'] as const) {
      await pictured.emulateMedia({ colorScheme })
      const path = fileURLToPath(new URL(`../../../docs/guide/web-${colorScheme}.png`, import.meta.url))
      await pictured.screenshot({ path })
    }
    await pictured.context().close()
  })

  test('a container has its policy, its calls, and refusals with a command that works', async () => {
    await see('mknod.devices=c:10:200')
    expect(await page.title()).toBe('build - Intercede')
    // The two commands would undo each other.
    await see(/asks for c:10:229 of mknod.devices: each command replaces the value, so put all that you allow into one/)
    await page.getByRole('row', { name: /^mknod true metadata/ }).waitFor()
    await page.getByRole('img', { name: /^Calls per second: done \d/ }).waitFor()
    await page.getByRole('img', { name: /^Latency of the slowest call: p50 \d/ }).waitFor()
    await page.getByRole('region', { name: 'Events' }).getByText('deviceNotAllowed').first().waitFor()
    expect(await viewer.flaws(page)).toEqual([])
    await page.getByRole('button', { name: 'Copy' }).first().click()
    await see('Copied')
    const command = String(await page.evaluate('navigator.clipboard.readText()'))
    expect(command).toMatch(/^intercede set --feed \S+ build mknod\.devices=c:10:200$/)
    const { status, stderr } = await execute('sh', ['-c', command.replace('intercede', `${process.execPath} ${CLI}`)])
    expect(status, stderr).toBe(0)
    await see('nothing: it is allowed by now')
  })

  test('beside the line for good it says who of the same profile wants another one', async () => {
    for (const [id, minor] of [['alpha', 229] as const, ['beta', 232] as const])
      contain(id, ['tun'], [], { metadata: 'profile=shared', minor })
    await open('Containers')
    await page.getByRole('link', { name: 'alpha' }).click()
    await see(
      /c:10:200 of mknod.devices; other values of mknod.devices are wanted in its profile by beta: each command/,
    )
    for (const { pid } of containers.splice(-2)) process.kill(-pid!, 'SIGKILL')
    await open('Containers')
    await page.getByRole('link', { name: 'build' }).click()
    await page.getByRole('heading', { name: 'build', level: 1 }).waitFor()
  })

  test('two containers of one name are told by their ids, and what cannot work of a policy is said', async () => {
    const ids = ['a', 'b'].map((each) => each.repeat(64))
    const metadata = 'security.syscalls.intercept.mknod.devices=c:10:200'
    for (const id of ids) contain(id, ['.'], ['nerdctl/name=twin'], { metadata })
    await open('Containers')
    const twins = page.getByRole('row', { name: /^twin / })
    for (const id of ids) await twins.filter({ hasText: id.slice(0, 12) }).waitFor()
    await page.getByRole('searchbox').fill('b'.repeat(20))
    await page.getByRole('status').getByText('1 of ').waitFor()
    const [table] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Save as CSV' }).click(),
    ])
    expect(readFileSync(await table.path(), 'utf8').split('\r\n')[1]).toMatch(`"twin","${ids[1]}",`)
    await twins.getByRole('link').click()
    await see(/^mknod\.devices does nothing without mknod=true/)
    expect(await viewer.flaws(page)).toEqual([])
    for (const { pid } of containers.splice(-2)) process.kill(-pid!, 'SIGKILL')
    await open('Containers')
    await page.getByRole('link', { name: 'build' }).click()
    await page.getByRole('heading', { name: 'build', level: 1 }).waitFor()
  })

  test('plots become pictures, and tables files, in which no text is a formula', async () => {
    const [picture] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Save as PNG' }).first().click(),
    ])
    expect(picture.suggestedFilename()).toBe('Calls per second.png')
    const png = readFileSync(await picture.path())
    expect(png.subarray(1, 4).toString()).toBe('PNG')
    // The title and the legend have a line each.
    expect(png.readUInt32BE(20)).toBe(180 + 2 * 24)
    contain('=HYPERLINK("x")', ['tun'])
    await open('Containers')
    await page.getByRole('link', { name: '=HYPERLINK' }).waitFor()
    const [table] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Save as CSV' }).click(),
    ])
    const text = readFileSync(await table.path(), 'utf8')
    expect(text).toMatch(/^"Container","ID","Image","State","Calls",.*,"P50 \(us\)","P99 \(us\)",/)
    expect(text).toContain(`"'=HYPERLINK(""x"")"`)
  })

  test('what a container has chosen is text, and no command is offered that does not find it', async () => {
    const image = 'io.kubernetes.cri.image-name'
    contain(HOSTILE, [HOSTILE, LONG], [`nerdctl/name=${HOSTILE}`, `${image}=${LONG}`])
    await page.getByRole('link', { name: SHOWN }).click()
    await page.getByRole('heading', { name: SHOWN }).waitFor()
    await see(/^mknod\(".*<img src=x onerror=alert\(1\)>/)
    await page
      .getByText(/^(<b>){50}/)
      .first()
      .waitFor()
    await page
      .getByText(/^mknod\("(<b>){9}/)
      .first()
      .waitFor()
    await see('if it is harmless, add c:10:200')
    expect(await page.getByRole('button', { name: 'Copy' }).count()).toBe(0)
    for (const name of VIEWS) {
      await open(name)
      await see(MARKUP)
    }
    expect(await page.locator('img, script:not([src])').count()).toBe(0)
    expect(viewer.complaints).toEqual([])
    expect(web.said).not.toContain('refused a part')
  })

  test.each(['light', 'dark'] as const)('all views are fit for all, in %s and 360 pixels wide', async (colorScheme) => {
    await page.emulateMedia({ colorScheme })
    await page.setViewportSize({ width: 360, height: 740 })
    for (const name of [...VIEWS, 'build']) {
      if (name === 'build') await open('Containers')
      await open(name)
      await page.getByRole('table').first().waitFor()
      expect([name, await viewer.flaws(page)]).toEqual([name, []])
      expect([name, await page.evaluate('document.documentElement.scrollWidth')]).toEqual([name, 360])
    }
    await page.setViewportSize({ width: 1280, height: 720 })
  })

  test('history adds up refusals by image', async () => {
    const { stdout } = await execute(process.execPath, [
      CLI,
      'explain',
      '--feed',
      feed,
      '--since',
      '1h',
      '--format',
      'json',
    ])
    contain('answered', ['.'])
    const hasAnswered = async (): Promise<boolean> =>
      (await execute(process.execPath, [CLI, 'explain', 'answered', '--feed', feed])).stdout.includes('kernelAnswered')
    await until('the kernel has answered', hasAnswered, 20)
    await page.reload()
    await open('History')
    const rows = page.getByRole('row', { name: /^build / })
    await rows.first().waitFor()
    const counts = new Map<string, number>()
    for (const row of await rows.all()) {
      const [, count = '', call = ''] = await row.getByRole('cell').allTextContents()
      counts.set(/\d+:\d+/.exec(call)?.[0] ?? '', Number(count))
    }
    type Refused = { readonly container: string; readonly call: string; readonly count: number }
    const refused = (JSON.parse(stdout) as Refused[]).filter(({ container }) => container === 'build')
    expect(refused.length).toBeGreaterThan(1)
    for (const { call, count } of refused) {
      const shown = counts.get(/\d+:\d+/.exec(call)![0])
      expect(shown, call).toBeGreaterThanOrEqual(count)
    }
    await see(/^As of \d/)
    await see(/ History begins at .*: what happened before is not known\./)
    const answered = page.getByRole('row', { name: /^answered / }).filter({ hasText: 'EEXIST' })
    await answered.getByText(/^no key changes that: the kernel itself answered EEXIST, usually because/).waitFor()
    await page.getByRole('combobox', { name: 'By' }).selectOption('image')
    await page
      .getByRole('row', { name: /no image known/ })
      .first()
      .waitFor()
    await page.getByRole('img', { name: /^Refusals by day: refusals [1-9]/ }).waitFor()
  })

  test('the first paint takes less than half a second, of less than 120 KB', async () => {
    const times: number[] = []
    for (let round = 0; round < 5; round++) {
      await page.reload()
      await see('History')
      const paints = "performance.getEntriesByName('first-contentful-paint').map(({ startTime }) => startTime)"
      await until('it is painted', async () => (await page.evaluate<number[]>(paints)).length > 0)
      times.push(...(await page.evaluate<number[]>(paints)))
    }
    expect(Math.min(...times)).toBeLessThan(500 * SLOWNESS)
    const { gzipSync } = await import('node:zlib')
    const files = ['page.html', 'page.js', 'style.css'].map(
      (name) => new URL(`../../../dist/web/${name}`, import.meta.url),
    )
    expect(files.reduce((sum, file) => sum + gzipSync(readFileSync(file)).length, 0)).toBeLessThan(120 * 1024)
  })

  test('while the daemon is gone, what was shown stays and says how old it is; the next one is found', async () => {
    await open('Daemon')
    await see('listeners per container')
    await machine.stop('SIGKILL')
    const timeout = 6000 * SLOWNESS
    await page
      .getByRole('alert')
      .getByText(/Cannot read .*\. What is shown is of/)
      .waitFor({ timeout })
    await see('listeners per container')
    await open('Containers')
    const row = page.getByRole('row', { name: /^build / })
    await row.getByRole('cell', { name: 'not served', exact: true }).waitFor()
    await page.reload()
    await row.getByRole('cell', { name: 'not served', exact: true }).waitFor()
    expect(await row.getByRole('cell').nth(4).textContent()).toMatch(/^(\d+\+|-)$/)
    await page.getByRole('alert').getByText('only history is shown.').waitFor()
    expect(await viewer.flaws(page)).toEqual([])
    await page.getByRole('link', { name: 'build' }).click()
    await see(/^not served/)
    await see('No events are received now.')
    await see(/so trapped calls fail with ENOSYS; restart the container$/)
    await see(/^left to the kernel, \d+\+ times/)
    await page.getByRole('img', { name: 'Calls per second: done -, left -, error -' }).waitFor()
    expect(await page.getByText('in flight').count()).toBe(0)
    expect(await page.getByText('Nothing has happened yet.').count()).toBe(0)
    await page.getByRole('alert').getByText('only history is shown.').waitFor()
    await open('History')
    const remembered = page.getByRole('row', { name: /^build / }).first()
    await remembered.waitFor()
    expect(await remembered.getByRole('cell').nth(1).textContent()).toMatch(/^\d+\+$/)
    await page
      .getByRole('alert')
      .getByText(/only history is shown\. What is shown is of/)
      .waitFor()
    await open('Containers')
    await machine.serve(`history: { path: ${history} }`)
    contain('again', ['tun'])
    await page.getByRole('link', { name: 'again' }).waitFor()
    expect(await page.getByRole('alert').count()).toBe(0)
  })

  test('while the daemon hangs, the page says so, and soon after that all is new again', async () => {
    await open('Daemon')
    await see('listeners per container')
    process.kill(machine.pid, 'SIGSTOP')
    try {
      await page
        .getByRole('alert')
        .getByText(/does not answer.*\. What is shown is of/)
        .waitFor({ timeout: 10_000 * SLOWNESS })
      await open('Containers')
      await page.getByRole('alert').getByText('only history is shown.').waitFor()
      await page
        .getByRole('row', { name: /^again / })
        .getByRole('cell', { name: 'unknown', exact: true })
        .waitFor()
      expect(await viewer.flaws(page)).toEqual([])
    } finally {
      process.kill(machine.pid, 'SIGCONT')
    }
    await page.getByRole('alert').waitFor({ state: 'detached', timeout: 15_000 * SLOWNESS })
    await page
      .getByRole('row', { name: /^again / })
      .getByRole('cell', { name: 'served', exact: true })
      .waitFor()
  })

  test('while the program hangs, what is shown says how old it is, and soon after that it is new again', async () => {
    await page.getByRole('link', { name: 'again' }).click()
    const plot = page.getByRole('img', { name: /^Calls per second: done \d/ })
    await plot.waitFor()
    web.child.kill('SIGSTOP')
    await see(/^What is shown is \d+ seconds old/)
    web.child.kill('SIGCONT')
    await see(/^Shown every [234] seconds/)
    await plot.waitFor()
    await page.getByText(/^Shown every/).waitFor({ state: 'detached', timeout: 8000 * SLOWNESS })
    expect(await viewer.flaws(page)).toEqual([])
    web.child.kill('SIGSTOP')
    await open('History')
    await see(/^Loading\u2026$/)
    await see(/^"intercede web" has not answered yet/)
    web.child.kill('SIGCONT')
    await see(/^As of \d/)
  })

  const noRun = unable()
  test.skipIf(noRun)(withReason('what intercede run has started is shown, too', noRun), async () => {
    const usual = await serve([process.execPath, CLI, 'web'])
    const script = 'echo ready; while :; do busybox mknod /tmp/n c 10 200; sleep 0.2; done 2>&1'
    const waits = `echo ready; sleep 1000; ${process.pid}`
    const runs = [await start(['-c', 'mknod', ...sh(waits)])]
    const other = await viewer.page()
    try {
      runs.push(await start(['--name', `runner-${process.pid}`, '-c', 'mknod', ...sh(script)]))
      await other.goto(usual.address)
      await other.getByRole('link', { name: new RegExp(` sh -c ${waits}$`) }).waitFor()
      await other.getByRole('link', { name: `runner-${process.pid}` }).click()
      await other.getByRole('heading', { name: `runner-${process.pid}`, level: 1 }).waitFor()
      await see('the policy of a run is that of its command line', other)
      await other.getByRole('img', { name: /^Calls per second: done \d/ }).waitFor()
      await other.getByRole('region', { name: 'Events' }).getByText('deviceNotAllowed').first().waitFor()
    } finally {
      for (const each of runs) {
        each.kill('SIGTERM')
        await ended(each)
      }
    }
    // A daemon of this machine, or another run, may be there.
    await other.getByRole('alert').getByText('What is shown is of').waitFor()
    await other.context().close()
  })

  test('another browser, or a wrong token, is not admitted', async () => {
    const other = await viewer.page()
    for (const address of [web.address, web.address.replace(/.{5}$/, 'wrong')]) {
      await other.goto(address)
      await other.getByRole('alert').getByText('does not admit this browser').waitFor()
    }
    expect(await viewer.flaws(other)).toEqual([])
    await other.context().close()
  })

  test('a user who may not read the daemon is told so', async () => {
    const hidden = ['--mount', 'sh', '-c', 'mount -t tmpfs -o mode=700 none /var/lib && exec "$@"', 'sh']
    const user = await serve(['unshare', ...hidden, 'unshare', ...byUser('web', '--feed', feed)])
    const other = await viewer.page()
    await other.goto(user.address)
    await other
      .getByRole('alert')
      .getByText(/EACCES|may|permi/i)
      .waitFor()
    await other.getByRole('link', { name: 'Daemon' }).click()
    await see('No events are received now.', other)
    await other.getByRole('link', { name: 'History' }).click()
    await other.getByRole('alert').getByText('Cannot read history: only the daemon knows where it is').waitFor()
    expect(await viewer.flaws(other)).toEqual([])
    await other.context().close()
  })

  test('it works in the network of a Pod, through a tunnel that begins at another port, as that of kubectl', async () => {
    const inPod = 'busybox ip link set lo up && exec "$@"'
    const command = [process.execPath, CLI, 'web', '--feed', feed, '--listen', '127.0.0.1:9471']
    const pod = await serve(['unshare', '--net', 'sh', '-c', inPod, 'sh', ...command])
    // The kubelet does the same.
    const tunnel = createTunnel((socket) => {
      const nc = ['--target', `${pod.child.pid}`, '--net', 'busybox', 'nc', '127.0.0.1', '9471']
      const { stdin, stdout } = spawn('nsenter', nc, { stdio: ['pipe', 'pipe', 'inherit'] })
      for (const stream of [socket, stdin, stdout]) stream.on('error', () => {})
      socket.pipe(stdin)
      stdout.pipe(socket)
    })
    await new Promise<void>((resolve) => tunnel.listen(0, '127.0.0.1', resolve))
    const { port } = tunnel.address() as AddressInfo
    const other = await viewer.page()
    await other.goto(pod.address.replace('127.0.0.1:9471', `localhost:${port}`))
    await other.getByRole('link', { name: 'again' }).waitFor()
    await other.context().close()
    await pod.end()
    tunnel.close()
  })

  test('after its end, the page believes no other program at its port', async () => {
    await open('Containers')
    const { port, pathname } = web.url
    await web.end()
    await page.getByRole('alert').getByText('does not answer').waitFor()
    let asked = 0
    const impostor: Server = createServer(({ url }, response) => {
      if (url?.startsWith(pathname)) asked++
      response.setHeader('content-type', 'application/json')
      response.setHeader('x-intercede-proof', 'x'.repeat(43))
      response.end('{"containers":[{"id":"forged","serial":1}],"rates":[],"error":"forged"}')
    })
    await new Promise<void>((resolve) => impostor.listen(Number(port), '127.0.0.1', resolve))
    await page.getByRole('alert').getByText('Another program answers').waitFor({ timeout: PATIENCE_MS })
    expect(await page.getByText('forged').count()).toBe(0)
    expect(asked).toBeGreaterThan(0)
    impostor.closeAllConnections()
    impostor.close()
    expect(viewer.complaints).toEqual([])
  })

  test('the program says what the browser refuses', async () => {
    const other = await serve()
    const own = await viewer.page()
    await own.goto(other.address)
    await own.evaluate("document.body.append(Object.assign(new Image(), { src: 'http://192.0.2.1/' }))")
    await until('it is told', () => other.said.includes('refused a part of the page'))
    expect(other.said).toContain('img-src')
  })
})
