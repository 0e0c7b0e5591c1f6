import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { escapedAll } from '../calls/escape.ts'
import { metric } from '../reader/exposition.ts'
import { ANSWERS_BYTES, CONNECTIONS, HEAD_BYTES, HEAD_MS, IDLE_MS, LOOK_MS, QUIET_MS, REQUESTS } from './bounds.ts'
import type { DaemonLink } from './daemon-link.ts'
import { streamEvents } from './event-lines.ts'
import { HttpError } from './http-error.ts'
import { openapi } from './openapi.ts'
import { asked, requireQuestion } from './request.ts'
import type { Content } from './routes.ts'

interface ApiOptions {
  readonly daemon: DaemonLink
  /** Called when nobody was connected for a while; undefined to stay. */
  readonly onIdle?: (() => void) | undefined
  /** Takes a sentence for the log. */
  readonly say: (message: string) => void
}

const LOOPBACK: ReadonlySet<string> = new Set(['127.0.0.1', '::1'])

/**
 * Answers programs over HTTP about what the daemon shows. It asks the daemon nothing but its memories, and what a
 * client may take of it is bounded: connections, the head of a request, what waits for a client that does not read.
 */
export class ApiServer {
  readonly #options: ApiOptions
  readonly #servers: Server[] = []
  readonly #sockets = new Set<Socket>()
  /** Those with a stream of events. */
  readonly #streaming = new WeakSet<Socket>()
  #idle: NodeJS.Timeout | undefined
  #waiting = 0
  #refused = 0
  #cutOff = 0

  constructor(options: ApiOptions) {
    this.#options = options
    this.#look()
  }

  /**
   * Answers at a socket that listens already.
   *
   * @throws {Error} if others than programs of this machine reach it
   */
  async listen(fd: number): Promise<void> {
    const server = createServer(
      {
        ...{ maxHeaderSize: HEAD_BYTES, headersTimeout: HEAD_MS, requestTimeout: HEAD_MS, keepAliveTimeout: HEAD_MS },
        connectionsCheckingInterval: LOOK_MS,
      },
      (request, response) => this.#answer(request, response),
    )
    server.on('checkContinue', (request, response) => this.#answer(request, response))
    server.on('connection', (socket: Socket) => this.#connected(socket))
    server.timeout = QUIET_MS
    server.maxRequestsPerSocket = REQUESTS
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen({ fd }, resolve))
    this.#servers.push(server)
    const { address } = (server.address() ?? {}) as Partial<AddressInfo>
    if (address === undefined || LOOPBACK.has(address)) return
    this.close()
    throw new Error(`Cannot answer at ${address}: others than this machine reach it; use 127.0.0.1 or [::1]`)
  }

  close(): void {
    clearTimeout(this.#idle)
    for (const server of this.#servers) server.close()
    for (const socket of this.#sockets) socket.destroy()
    this.#options.daemon.close()
  }

  #connected(socket: Socket): void {
    if (this.#sockets.size >= CONNECTIONS) {
      this.#refused++
      socket.destroy()
      return
    }
    this.#sockets.add(socket)
    clearTimeout(this.#idle)
    socket.on('close', () => {
      this.#sockets.delete(socket)
      this.#look()
    })
  }

  #look(): void {
    const { onIdle } = this.#options
    if (onIdle === undefined || this.#sockets.size > 0) return
    clearTimeout(this.#idle)
    this.#idle = setTimeout(onIdle, IDLE_MS)
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    response.on('error', () => {})
    response.setHeader('cache-control', 'no-store')
    response.setHeader('x-content-type-options', 'nosniff')
    try {
      requireQuestion(request)
      this.#give(request, response)
    } catch (error) {
      this.#fail(response, error)
    }
  }

  #give({ url = '', method, socket }: IncomingMessage, response: ServerResponse): void {
    if (url === '/openapi.json') {
      this.#send(response, 'application/json', JSON.stringify(openapi()))
      return
    }
    const { route, values } = asked(url)
    const content = route.answer(() => this.#options.daemon.feed, values)
    if (content.kind !== 'events') this.#send(response, route.type, this.#textOf(content))
    else {
      response.setHeader('content-type', route.type)
      socket.setTimeout(0)
      void this.#stream(socket, response, { ...content, isHead: method === 'HEAD' })
    }
  }

  /** What is asked for behind a stream waits until that has ended, and a stream would fill its memory meanwhile. */
  async #stream(socket: Socket, response: ServerResponse, wanted: Parameters<typeof streamEvents>[2]): Promise<void> {
    if (this.#streaming.has(socket)) {
      this.#fail(response, new HttpError(429, 'Cannot stream events: this connection has a stream; open another one'))
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

  #textOf(content: Exclude<Content, { readonly kind: 'events' }>): string {
    if (content.kind === 'json') return `${JSON.stringify(escapedAll(content.value))}\n`
    return `${content.text}${this.#metrics()}`
  }

  #metrics(): string {
    const name = 'intercede_api'
    return [
      metric(`${name}_connections`, 'gauge', 'Connections to this server.', [['', this.#sockets.size]]),
      metric(`${name}_connections_refused_total`, 'counter', 'Connections over the limit.', [['', this.#refused]]),
      metric(`${name}_streams_cut_off_total`, 'counter', 'Streams whose clients did not read.', [['', this.#cutOff]]),
    ].join('')
  }

  #send(response: ServerResponse, type: string, text: string): void {
    const bytes = Buffer.from(text)
    if (this.#waiting + bytes.length > ANSWERS_BYTES)
      throw new HttpError(503, 'Cannot answer: too much waits for other clients; ask again')
    this.#waiting += bytes.length
    response.on('close', () => {
      this.#waiting -= bytes.length
    })
    response.setHeader('content-type', type)
    response.setHeader('content-length', bytes.length)
    response.end(bytes)
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
