import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { reasons } from '../calls/reasons.ts'
import type { WhichRefusals } from '../memories/read-counts.ts'
import { version } from '../processes/installation.ts'
import type { ContainerView } from '../reader/container-fields.ts'
import {
  containersOf,
  describeAmbiguity,
  eachContainer,
  everythingOf,
  findContainer,
  joinOutlived,
  refusalsOf,
  summaryOf,
  wholeContainer,
} from '../reader/container-view.ts'
import { parseCursor } from '../reader/event-stream.ts'
import type { FeedReader } from '../reader/feed.ts'
import { metricsText } from '../reader/metrics.ts'
import { briefly } from '../shared/texts.ts'
import { HttpError } from './bounds.ts'
import type { DaemonLink } from './daemon-link.ts'
import { listOf, named, type Schema, schemas } from './schemas.ts'

/** The values of the parameters of a request, checked by name. */
export type QueryValues = Readonly<Record<string, string>>

interface Parameter {
  readonly name: string
  readonly is: string
  readonly schema: Schema
}

/** What is asked for: metrics, a value for JSON, a long list in parts, or a stream of events. */
type Content =
  | { readonly kind: 'metrics'; readonly text: () => string }
  | { readonly kind: 'json'; readonly value: unknown }
  | { readonly kind: 'list'; readonly parts: (feed: FeedReader) => Iterable<readonly unknown[]> }
  | { readonly kind: 'events'; readonly container: string | undefined; readonly options: QueryValues }

/** @throws {HttpError} if there is none */
type AskedDaemon = Pick<DaemonLink, 'feed' | 'unserved'>

interface ApiRoute {
  /** As OpenAPI writes it: `{id}` stands for one part. */
  readonly path: string
  readonly is: string
  readonly query: readonly Parameter[]
  /** Of the whole answer, or of a line of it. */
  readonly schema: Schema
  readonly type: 'text/plain; version=0.0.4' | 'application/json' | 'application/x-ndjson'
  answer(daemon: AskedDaemon, values: QueryValues): Content
}

const flag: Schema = { enum: ['true', 'false'] }
const all: Parameter = { name: 'all', is: 'also containers that ended recently', schema: flag }
const CONTAINER = 'its id, its name, or the beginning of its id'

/**
 * @param ended also those that ended recently
 * @param which which refusals of each to read
 */
export function containersIn(
  daemon: AskedDaemon,
  ended: boolean,
  which: WhichRefusals = 'last',
): readonly ContainerView[] {
  const unserved = daemon.unserved() ?? []
  if (unserved.length === 0) return containersOf(daemon.feed, ended, which)
  // What was executed in one of them has its own end, and is a part of it.
  const all = joinOutlived([...containersOf(daemon.feed, true, which), ...unserved])
  return ended ? all : all.filter(({ state }) => state !== 'ended')
}

/** What history has of a container is all that is known of it. @returns undefined if it has gone meanwhile */
const wholeIn = (daemon: AskedDaemon, view: ContainerView): ContainerView | undefined =>
  view.state === 'unserved' ? view : wholeContainer(daemon.feed, view)

/** @throws {HttpError} if there is none, or are several */
function containerIn(daemon: AskedDaemon, word: string): ContainerView {
  const found = findContainer(containersIn(daemon, true), word)
  if (found.length > 1) throw new HttpError(409, describeAmbiguity(found, word))
  const [view] = found
  const whole = view && wholeIn(daemon, view)
  if (whole) return whole
  throw new HttpError(
    404,
    `Cannot find container ${briefly(word)}: no container has that id or name; see /v1/containers`,
  )
}

const json = (value: unknown): Content => ({ kind: 'json', value })

/** One container after the other: of all together there may be 65,536. */
function* eachRefusals(feed: FeedReader, unserved: readonly ContainerView[]): Generator<ReturnType<typeof refusalsOf>> {
  for (const view of eachContainer(feed, false, 'all', 'brief')) yield refusalsOf([view])
  for (const view of unserved) yield refusalsOf([view])
}

function statusOf(daemon: AskedDaemon): object {
  const { directory } = daemon.feed
  const views = containersOf(daemon.feed, false, 'last')
  const { keeper, engine } = directory.state
  const { version = '', stuck = 0 } = directory.daemon
  const sum = (of: (view: ContainerView) => number): number => views.reduce((total, view) => total + of(view), 0)
  return {
    ...{ version, keeper, engine, containers: views.length, stuck },
    ...{ listeners: sum(({ about }) => Number(about.listeners)), inFlight: sum(({ inFlight }) => inFlight) },
    unserved: daemon.unserved()?.length,
  }
}

function eventsOf(daemon: AskedDaemon, { container, ...options }: QueryValues): Content {
  try {
    if (options.after !== undefined) parseCursor(options.after)
  } catch (error) {
    throw new HttpError(400, (error as Error).message)
  }
  return { kind: 'events', container: container === undefined ? undefined : containerIn(daemon, container).id, options }
}

const apiRoutes: readonly ApiRoute[] = [
  {
    ...{ path: '/metrics', is: 'Counters, for Prometheus', query: [], type: 'text/plain; version=0.0.4' },
    schema: { type: 'string' },
    answer: (daemon) => ({ kind: 'metrics', text: () => metricsText(daemon.feed, daemon.unserved()?.length) }),
  },
  {
    ...{ path: '/v1/status', is: 'The daemon', query: [], type: 'application/json', schema: named('Status') },
    answer: (daemon) => json(statusOf(daemon)),
  },
  {
    ...{ path: '/v1/containers', is: 'The containers that run', query: [all], type: 'application/json' },
    schema: listOf(named('Container')),
    answer: (daemon, values) => json(containersIn(daemon, values.all === 'true').map(summaryOf)),
  },
  {
    ...{ path: '/v1/containers/{id}', is: 'Everything about one container', query: [], type: 'application/json' },
    schema: named('ContainerDetail'),
    answer: (daemon, { id = '' }) => json(everythingOf(containerIn(daemon, id))),
  },
  {
    ...{ path: '/v1/containers/{id}/refusals', is: 'What was refused in one container', query: [] },
    ...{ type: 'application/json', schema: listOf(named('Refusal')) },
    answer: (daemon, { id = '' }) => json(refusalsOf([containerIn(daemon, id)])),
  },
  {
    ...{ path: '/v1/refusals', is: 'What was refused, and what to change', query: [], type: 'application/json' },
    schema: listOf(named('Refusal')),
    answer(daemon) {
      const unserved = daemon.unserved() ?? []
      return { kind: 'list', parts: (feed) => eachRefusals(feed, unserved) }
    },
  },
  {
    ...{ path: '/v1/events', is: 'Events, one line of JSON each', type: 'application/x-ndjson' },
    schema: named('Event'),
    query: [
      { name: 'container', is: CONTAINER, schema: { type: 'string' } },
      { name: 'follow', is: 'false to end after the past events', schema: flag },
      {
        ...{ name: 'tail', is: 'how many past events to send first' },
        schema: { type: 'string', pattern: '^\\d{1,9}$' },
      },
      { name: 'after', is: 'continue after the event with this cursor', schema: { type: 'string' } },
    ],
    answer: (daemon, values) => eventsOf(daemon, values),
  },
  {
    ...{ path: '/v1/reasons', is: 'All reasons that calls can have', query: [], type: 'application/json' },
    schema: listOf(named('Reason')),
    answer: () => json(Object.entries(reasons).map(([code, [says, remedy]]) => ({ code, says, remedy }))),
  },
]

const STATUSES: Readonly<Record<string, string>> = {
  400: 'a parameter is wrong',
  403: 'the Host is not localhost or the address of the port, the request comes from a web page, or a port is asked for something else than metrics',
  404: 'there is no such thing',
  405: 'only GET and HEAD are answered',
  409: 'several ids begin with it',
  413: 'a request has no body',
  429: 'the connection already has a stream of events',
  503: 'no daemon answers, or too many answers wait for other clients',
}

const errors = Object.fromEntries(
  Object.entries(STATUSES).map(([status, description]) => [
    status,
    { description, content: { 'application/json': { schema: named('Error') } } },
  ]),
)

const inPath = (path: string): readonly string[] => [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!)

const operation = ({ path, is, query, type, schema }: ApiRoute): object => ({
  get: {
    summary: is,
    parameters: [
      ...inPath(path).map((name) => ({ name, in: 'path', required: true, schema: { type: 'string' } })),
      ...query.map(({ name, is: description, schema: of }) => ({ name, in: 'query', description, schema: of })),
    ],
    responses: { 200: { description: is, content: { [type.split(';')[0]!]: { schema } } }, ...errors },
  },
})

/** The document that describes every answer, OpenAPI 3.1. */
export const openapi = (): object => ({
  openapi: '3.1.0',
  info: { title: 'Intercede', version: version().split(' ')[0] },
  paths: {
    ...Object.fromEntries(apiRoutes.map((route) => [route.path, operation(route)])),
    '/openapi.json': {
      get: {
        summary: 'This document',
        responses: { 200: { description: 'It', content: { 'application/json': { schema: { type: 'object' } } } } },
      },
    },
  },
  components: { schemas },
})

const HOST = /^localhost(:\d{1,5})?$/i

/** A page of a browser may have a name that leads to us, but its address is not ours. */
const isOurs = (host: string, { localAddress: address, localPort: port }: Socket): boolean =>
  HOST.test(host) || (port !== undefined && [`${address}:${port}`, `[${address}]:${port}`].includes(host))

/**
 * Refuses what no program of this machine sends that means it: a page in a browser, by whatever name it calls us; and
 * what is no question.
 *
 * @throws {HttpError}
 */
export function requireQuestion({ headers, method, socket, url }: IncomingMessage): void {
  if (!isOurs(headers.host ?? '', socket))
    throw new HttpError(403, 'Cannot answer: the Host is not localhost; ask for http://localhost/')
  if (headers.origin !== undefined)
    throw new HttpError(403, 'Cannot answer: the request comes from a web page (Origin); send it from a program')
  const length = headers['content-length']
  if (headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0'))
    throw new HttpError(413, 'Cannot answer: the request has a body; leave it out')
  if (socket.localPort !== undefined && url !== '/metrics')
    throw new HttpError(403, 'Cannot answer: a port serves only /metrics; use the socket view.sock')
  if (method !== 'GET' && method !== 'HEAD')
    throw new HttpError(405, 'Cannot answer: the method is not GET or HEAD; use GET')
}

const patterns = apiRoutes.map((route) => ({
  route,
  pattern: new RegExp(`^${route.path.replaceAll('.', '\\.').replaceAll(/\{(\w+)\}/g, '(?<$1>[^/]+)')}$`),
}))

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw new HttpError(400, 'Cannot read the address: a % in it stands for no byte; write it as %25')
  }
}

/** Finds what a request asks for, and the values of its parameters. @throws {HttpError} if it is not known */
export function asked(address: string): { readonly route: ApiRoute; readonly values: QueryValues } {
  const [path = '', query = ''] = address.split(/\?(.*)/s)
  for (const { route, pattern } of patterns) {
    const match = pattern.exec(path)
    if (!match) continue
    const parts = Object.entries(match.groups ?? {}).map(([name, part]) => [name, decoded(part)])
    return { route, values: { ...Object.fromEntries(parts), ...queried(route, query) } }
  }
  throw new HttpError(404, 'Cannot answer: there is no such path; /openapi.json has all of them')
}

function queried({ query }: ApiRoute, text: string): QueryValues {
  const values: Record<string, string> = {}
  for (const [name, value] of new URLSearchParams(text)) {
    const parameter = query.find((each) => each.name === name)
    if (!parameter) throw new HttpError(400, `Cannot use ${briefly(name)}: there is no such parameter; leave it out`)
    const { enum: words, pattern } = parameter.schema as {
      readonly enum?: readonly string[]
      readonly pattern?: string
    }
    const isGood = (words?.includes(value) ?? true) && (pattern === undefined || new RegExp(pattern).test(value))
    if (!isGood)
      throw new HttpError(
        400,
        `Cannot use ${name}=${briefly(value)}: that is not one of its values; use ${words?.join(' or ') ?? 'a whole number'}`,
      )
    values[name] = value
  }
  return values
}
