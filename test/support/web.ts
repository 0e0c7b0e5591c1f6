// `intercede web` as a child, and Debian's Chromium, which looks at its page: for tests of that page.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import axe from 'axe-core'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { until } from './host.ts'
import { CLI } from './machine.ts'
import { SLOWNESS } from './slowness.ts'

/** The page's own policy keeps a script of another one out, and lets the debugger evaluate. */
const AXE = axe.source
const CHROMIUM = '/usr/bin/chromium'
/** Why no page can be looked at here; undefined if it can. */
export const withoutChromium = existsSync(CHROMIUM) ? undefined : 'there is no chromium'
/** A machine that does other things too takes long to start a browser, and to paint. */
export const PATIENCE_MS = 30_000 * SLOWNESS

/** The program that serves the page. */
export class Web {
  /** The address that it prints. */
  address = ''
  said = ''
  readonly child: ChildProcess

  private constructor([program = '', ...words]: readonly string[]) {
    this.child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.child.stdout!.on('data', (chunk: Buffer) => (this.address += chunk.toString()))
    this.child.stderr!.on('data', (chunk: Buffer) => (this.said += chunk.toString()))
  }

  static async start(feed: string, ...more: readonly string[]): Promise<Web> {
    return Web.by([process.execPath, CLI, 'web', '--feed', feed, ...more])
  }

  /** Starts it by a command that becomes `intercede web`. */
  static async by(command: readonly string[]): Promise<Web> {
    const web = new Web(command)
    await until('it serves', () => web.said.includes('Open this address') || web.child.exitCode !== null)
    if (web.child.exitCode !== null) throw new Error(`It does not serve: ${web.said}`)
    web.address = web.address.trim()
    return web
  }

  get url(): URL {
    return new URL(this.address)
  }

  /** Sends a signal. @returns its exit status, or the signal that ended it */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals | null> {
    const { exitCode, signalCode } = this.child
    if (exitCode !== null || signalCode !== null) return exitCode ?? signalCode
    const exit = once(this.child, 'exit')
    this.child.kill(signal)
    const [status, by] = await exit
    return status ?? by
  }
}

/** A browser, and what its pages complained of. */
export class Viewer {
  readonly complaints: string[] = []
  readonly #browser: Browser

  private constructor(browser: Browser) {
    this.#browser = browser
  }

  static async start(): Promise<Viewer> {
    const args = ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu']
    return new Viewer(await chromium.launch({ executablePath: CHROMIUM, args, timeout: PATIENCE_MS }))
  }

  /** A page of a browser that has been nowhere. */
  async page(options: BrowserContextOptions = {}): Promise<Page> {
    const context = await this.#browser.newContext(options)
    context.setDefaultTimeout(PATIENCE_MS)
    const page = await context.newPage()
    page.on('pageerror', (error) => this.complaints.push(error.message))
    page.on('console', (message) => {
      // That of a question that failed is what some tests are about.
      if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) {
        this.complaints.push(message.text())
      }
    })
    return page
  }

  /** What axe finds wrong with a page, for those who do not see it, or who have no mouse. */
  async flaws(page: Page): Promise<readonly string[]> {
    await page.evaluate(AXE)
    const { violations } = await page.evaluate<axe.AxeResults>('axe.run()')
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join(', ')}`)
  }

  async close(): Promise<void> {
    await this.#browser.close()
  }
}
