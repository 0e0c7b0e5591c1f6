// `intercede web` as a child, and Debian's Chromium, which looks at its page: for tests of that page.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { until } from './host.ts'
import { CLI } from './machine.ts'
import { SLOWNESS } from './slowness.ts'

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

  private constructor(words: readonly string[]) {
    this.child = spawn(process.execPath, [CLI, 'web', ...words], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.child.stdout!.on('data', (chunk: Buffer) => (this.address += chunk.toString()))
    this.child.stderr!.on('data', (chunk: Buffer) => (this.said += chunk.toString()))
  }

  static async start(feed: string, ...more: readonly string[]): Promise<Web> {
    const web = new Web(['--feed', feed, ...more])
    await until('it serves', () => web.said.includes('Open this address') || web.child.exitCode !== null)
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

  async close(): Promise<void> {
    await this.#browser.close()
  }
}
