import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { shownJson } from '../calls/escape.ts'
import { now } from '../kernel/clock.ts'
import type { FeedReader } from '../reader/feed.ts'
import { metric } from '../reader/metrics.ts'
import {
  ANSWERS_BYTES,
  CONNECTIONS,
  HEAD_BYTES,
  HEAD_MS,
  HttpError,
  IDLE_MS,
  LOOK_MS,
  METRICS_MS,
  METRICS_TIMES,
  QUIET_MS,
  REQUESTS,
} from './bounds.ts'
import type { DaemonLink } from './daemon-link.ts'
import { asked, openapi, requireQuestion } from './routes.ts'
import { streamEvents, streamList } from './streams.ts'

interface ApiOptions {
  readonly daemon: DaemonLink
  /** Called when nobody was connected for a while; undefined to stay. */
  readonly onIdle?: (() => void) | undefined
  /** Takes a sentence for the log. */
  readonly say: (message: string) => void
}

/** Bytes of an answer; those of several that are given the same bytes are in memory once. */
class Answer {
  readonly bytes: Buffer
  readonly #users = new Map<Clients, number>()

  constructor(text: string) {
    this.bytes = Buffer.from(text)
  }

  /** @returns how many bytes more wait for these clients */
  use(clients: Clients, change: 1 | -1): number {
    const before = this.#users.get(clients) ?? 0
    this.#users.set(clients, before + change)
    return Math.min(before + change, 1) === Math.min(before, 1) ? 0 : change * this.bytes.length
  }
}

/** Who is connected to one listening socket: who may use one takes nothing from those at another one. */
class Clients {
  /** Each with what it gives back at its end. */
  readonly #sockets = new Map<Socket, Set<() => void>>()
  #waiting = 0

  get size(): number {
    return this.#sockets.size
  }

  /** @returns false if there are too many already */
  enter(socket: Socket, ended: () => void): boolean {
    if (this.size >= CONNECTIONS) return false
    const held = new Set<() => void>()
    this.#sockets.set(socket, held)
    // Answers that wait for others on the same connection are told nothing of its end.
    socket.on('close', () => {
      for (const giveBack of held) giveBack()
      this.#sockets.delete(socket)
      ended()
    })
    return true
  }

  /** @returns false if too much waits for others; what is alone may be of any size */
  hold(answer: Answer, socket: Socket, response: ServerResponse): boolean {
    const held = this.#sockets.get(socket)
    const more = answer.use(this, 1)
    if (!held || (this.#waiting > 0 && this.#waiting + more > ANSWERS_BYTES)) {
      answer.use(this, -1)
      return false
    }
    this.#waiting += more
    const giveBack = (): void => {
      if (held.delete(giveBack)) this.#waiting += answer.use(this, -1)
    }
    held.add(giveBack)
    response.on('close', giveBack)
    return true
  }

  close(): void {
    for (const socket of this.#sockets.keys()) socket.destroy()
  }
}

export interface TcpAddress {
  readonly host: string
  readonly port: number
}

/** Where to answer: at a socket that listens already, or at an address. */
export type ApiPlace = { readonly fd: number } | TcpAddress

const LOOPBACK: ReadonlySet<string> = new Set(['127.0.0.1', '::1'])

/**
 * Answers programs over HTTP about what the daemon shows. It asks the daemon nothing but its memories, and what a
 * client may take of it is bounded: connections, the head of a request, what waits for a client that does not read.
 */
export class ApiServer {
  readonly #options: ApiOptions
  readonly #servers = new Map<Server, Clients>()
  /** Those with a stream of events. */
  readonly #streaming = new WeakSet<Socket>()
  /** The last answer of each, which may wait for earlier ones. */
  readonly #last = new WeakMap<Socket, ServerResponse>()
  #metrics: Answer | undefined
  #metricsUntil = 0
  #idle: NodeJS.Timeout | undefined
  #refused = 0
  #cutOff = 0

  constructor(options: ApiOptions) {
    this.#options = options
    this.#look()
  }

  /**
   * Answers at a place.
   *
   * @throws {Error} if others than programs of this machine reach a socket that was passed
   */
  async listen(place: ApiPlace): Promise<void> {
    const clients = new Clients()
    const server = createServer(
      {
        ...{ maxHeaderSize: HEAD_BYTES, headersTimeout: HEAD_MS, requestTimeout: HEAD_MS, keepAliveTimeout: HEAD_MS },
        connectionsCheckingInterval: LOOK_MS,
      },
      (request, response) => this.#answer(request, response, clients),
    )
    server.on('checkContinue', (request, response) => this.#answer(request, response, clients))
    server.on('connection', (socket: Socket) => this.#connected(socket, clients))
    server.timeout = QUIET_MS
    server.maxRequestsPerSocket = REQUESTS
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(place, resolve))
    this.#servers.set(server, clients)
    const { address } = (server.address() ?? {}) as Partial<AddressInfo>
    if (address === undefined || 'host' in place || LOOPBACK.has(address)) return
    this.close()
    throw new Error(
      `Cannot answer at ${address}: other machines can reach that address; use 127.0.0.1 or [::1], or --listen`,
    )
  }

  close(): void {
    clearTimeout(this.#idle)
    for (const [server, clients] of this.#servers) {
      server.close()
      clients.close()
    }
    this.#options.daemon.close()
  }

  get #connections(): number {
    return [...this.#servers.values()].reduce((sum, { size }) => sum + size, 0)
  }

  #connected(socket: Socket, clients: Clients): void {
    if (clients.enter(socket, () => this.#look())) {
      clearTimeout(this.#idle)
      return
    }
    this.#refused++
    socket.destroy()
  }

  #look(): void {
    const { onIdle } = this.#options
    if (onIdle === undefined || this.#connections > 0) return
    clearTimeout(this.#idle)
    this.#idle = setTimeout(onIdle, IDLE_MS)
  }

  #answer(request: IncomingMessage, response: ServerResponse, clients: Clients): void {
    response.on('error', () => {})
    response.setHeader('cache-control', 'no-store')
    response.setHeader('x-content-type-options', 'nosniff')
    try {
      requireQuestion(request)
      this.#give(request, response, clients)
    } catch (error) {
      this.#fail(response, error)
    }
  }

  #give({ url = '', method, socket }: IncomingMessage, response: ServerResponse, clients: Clients): void {
    const before = this.#last.get(socket)
    this.#last.set(socket, response)
    const isHead = method === 'HEAD'
    const send = (answer: Answer): void => {
      if (!clients.hold(answer, socket, response))
        throw new HttpError(503, 'Cannot answer: too many answers wait for other clients; ask again')
      response.setHeader('content-length', answer.bytes.length)
      response.end(answer.bytes)
    }
    if (url === '/openapi.json') {
      response.setHeader('content-type', 'application/json')
      send(new Answer(JSON.stringify(openapi())))
      return
    }
    const { route, values } = asked(url)
    const content = route.answer(this.#options.daemon, values)
    if (content.kind === 'metrics') this.#metrics = this.#metricsNow(content.text)
    response.setHeader('content-type', route.type)
    if (content.kind === 'json') send(new Answer(`${shownJson(content.value)}\n`))
    else if (content.kind === 'metrics') send(this.#metrics!)
    else if (content.kind === 'list') void this.#list(response, before, isHead ? undefined : content.parts)
    else {
      socket.setTimeout(0)
      void this.#stream(socket, response, { ...content, isHead })
    }
  }

  /**
   * Sends a long list once all answers before it on its connection were sent. Its feed is its own: what all share is
   * closed when another request finds that the daemon has ended.
   *
   * @param parts undefined for its head
   */
  async #list(
    response: ServerResponse,
    before: ServerResponse | undefined,
    parts: ((feed: FeedReader) => Iterable<readonly unknown[]>) | undefined,
  ): Promise<void> {
    try {
      if (before && !before.closed) await new Promise((resolve) => before.once('close', resolve))
      if (response.req.socket.destroyed) return
      using feed = this.#options.daemon.open()
      if (!parts) response.end()
      else if (!(await streamList(response, parts(feed)))) this.#cutOff++
    } catch (error) {
      this.#fail(response, error)
    }
  }

  /** What is asked for behind a stream waits until that has ended, and a stream would fill its memory meanwhile. */
  async #stream(socket: Socket, response: ServerResponse, wanted: Parameters<typeof streamEvents>[2]): Promise<void> {
    if (this.#streaming.has(socket)) {
      this.#fail(
        response,
        new HttpError(429, 'Cannot stream events: this connection already has a stream; open another one'),
      )
      return
    }
    this.#streaming.add(socket)
    await this.#streamAlone(response, wanted)
    this.#streaming.delete(socket)
  }

  async #streamAlone(response: ServerResponse, wanted: Parameters<typeof streamEvents>[2]): Promise<void> {
    try {
      if (await streamEvents(response, () => this.#options.daemon.open(), wanted)) return
      this.#cutOff++
      this.#options.say('a client of /v1/events did not read, and was cut off')
    } catch (error) {
      this.#fail(response, error)
    }
  }

  /** Every local user may ask at a port, and metrics of many containers take long to make. */
  #metricsNow(text: () => string): Answer {
    if (this.#metrics && now() < this.#metricsUntil) return this.#metrics
    const start = now()
    const answer = new Answer(`${text()}${this.#ownMetrics()}`)
    this.#metricsUntil = now() + Math.max(METRICS_MS, METRICS_TIMES * (now() - start))
    return answer
  }

  #ownMetrics(): string {
    const name = 'intercede_api'
    return [
      metric(`${name}_connections`, 'gauge', 'Connections to this server.', this.#connections),
      metric(`${name}_connections_refused_total`, 'counter', 'Connections over the limit.', this.#refused),
      metric(`${name}_streams_cut_off_total`, 'counter', 'Streams whose clients did not read.', this.#cutOff),
    ].join('')
  }

  /** What follows on this connection may be the rest of what was refused, so it is closed. */
  #fail(response: ServerResponse, error: unknown): void {
    if (response.headersSent) {
      response.destroy()
      return
    }
    const { status = 500, message } = error as Partial<HttpError>
    if (status === 500) this.#options.say(`Cannot answer: ${message}`)
    response.statusCode = status
    response.setHeader('connection', 'close')
    response.setHeader('content-type', 'application/json')
    if (status === 405) response.setHeader('allow', 'GET, HEAD')
    response.end(
      `${JSON.stringify({ error: status === 500 ? 'Cannot answer: a fault of intercede; see its log' : message })}\n`,
    )
  }
}
