import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { shownJson } from '../calls/escape.ts'
import type { TcpAddress } from './api-server.ts'
import { CONNECTIONS, HEAD_BYTES, HEAD_MS, HttpError, LOOK_MS, QUIET_MS } from './bounds.ts'
import { PageDoor } from './page-door.ts'
import type { PageRoutes } from './page-routes.ts'
import { streamEvents } from './streams.ts'

/** What a browser loads before it has entered: nothing in it is secret. */
const FILES: ReadonlyMap<string, readonly [file: string, type: string]> = new Map([
  ['', ['page.html', 'text/html']],
  ['page.js', ['page.js', 'text/javascript']],
  ['style.css', ['style.css', 'text/css']],
])
/** The most bytes of a report of the browser, and the most reports that are told. */
const REPORT_BYTES = 8192
const REPORTS = 10
/** The most calls of a second that a page gets as events: more would keep it from showing anything else. */
const EVENT_RATE = 50

interface PageOptions {
  readonly routes: PageRoutes
  /** Takes a sentence for whoever started it. */
  readonly say: (message: string) => void
}

/** Serves one page to one browser of this machine, and what the page asks for. */
export class PageServer {
  readonly #door = new PageDoor()
  readonly #options: PageOptions
  readonly #server: Server
  /** Connections on which nobody has named the secret path yet, the oldest one first. */
  readonly #strangers = new Set<Socket>()
  #reports = 0

  constructor(options: PageOptions) {
    this.#options = options
    const limits = { maxHeaderSize: HEAD_BYTES, headersTimeout: HEAD_MS, requestTimeout: HEAD_MS }
    this.#server = createServer({ ...limits, connectionsCheckingInterval: LOOK_MS }, (request, response) => {
      void this.#answer(request, response)
    })
    this.#server.on('connection', (socket: Socket) => this.#connected(socket))
    this.#server.maxConnections = 2 * CONNECTIONS
    this.#server.timeout = QUIET_MS
  }

  /** @returns the address for the browser */
  async listen({ host, port }: TcpAddress): Promise<string> {
    await new Promise<void>((resolve, reject) => this.#server.once('error', reject).listen({ host, port }, resolve))
    const { port: own } = this.#server.address() as AddressInfo
    return `http://${host.includes(':') ? `[${host}]` : host}:${own}${this.#door.entrance}`
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
    this.#options.routes.close()
  }

  /** Every local user may connect: whoever connects and names no path must not keep the browser out. */
  #connected(socket: Socket): void {
    const [oldest] = this.#strangers
    if (oldest && this.#strangers.size >= CONNECTIONS) this.#strangers.delete(oldest.destroy())
    this.#strangers.add(socket)
    socket.once('close', () => this.#strangers.delete(socket))
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {})
    try {
      const path = this.#door.pathOf(request)
      this.#strangers.delete(request.socket)
      if (path === 'report') await this.#report(request, response)
      else {
        request.resume()
        await this.#give(path, request, response)
      }
    } catch (error) {
      this.#fail(response, error)
    }
  }

  async #give(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method } = request
    const [file, type] = FILES.get(path) ?? []
    const wanted = path === 'enter' ? 'POST' : 'GET'
    if (method !== wanted) throw new HttpError(405, `Cannot answer: the method is not ${wanted}`)
    if (file !== undefined) {
      this.#door.setHeaders(response, false)
      response.setHeader('content-type', `${type}; charset=utf-8`)
      response.end(readFileSync(fileURLToPath(new URL(`../../dist/web/${file}`, import.meta.url))))
      return
    }
    if (path === 'enter') this.#door.enter(request, response)
    else this.#door.requireEntered(request)
    this.#door.setHeaders(response, true)
    const events = /^events(?:\/(\d+))?$/.exec(path)
    if (events) await this.#stream(events[1], response)
    else this.#send(response, path === 'enter' ? {} : await this.#options.routes.answer(path))
  }

  #send(response: ServerResponse, value: unknown): void {
    response.setHeader('content-type', 'application/json')
    response.end(shownJson(value))
  }

  async #stream(serial: string | undefined, response: ServerResponse): Promise<void> {
    const { id: container, open, lastWords } = this.#options.routes.eventsOf(serial)
    response.req.socket.setTimeout(0)
    response.setHeader('content-type', 'application/x-ndjson')
    const wanted = { container, options: { tail: '200' }, isHead: false, rate: EVENT_RATE, lastWords }
    await streamEvents(response, open, wanted)
  }

  /** Tells what the browser has refused to do for the page, which never happens. */
  async #report(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#door.requireEntered(request)
    let text = ''
    for await (const chunk of request) {
      text += String(chunk)
      if (text.length > REPORT_BYTES) throw new HttpError(413, 'Cannot take the report: it is too long')
    }
    if (this.#reports++ < REPORTS) this.#options.say(`The browser refused a part of the page: ${JSON.stringify(text)}`)
    response.statusCode = 204
    response.end()
  }

  #fail(response: ServerResponse, error: unknown): void {
    if (response.headersSent) {
      response.destroy()
      return
    }
    const { status = 500, message } = error as Partial<HttpError>
    if (status === 500) this.#options.say(`Cannot answer: ${message}`)
    response.statusCode = status
    response.setHeader('connection', 'close')
    this.#door.setHeaders(response, status !== 401 && status !== 403 && response.hasHeader('x-intercede-proof'))
    this.#send(response, { error: message })
  }
}
