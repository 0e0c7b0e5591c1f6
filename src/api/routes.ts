import { reasons } from '../calls/reasons.ts'
import type { ContainerView } from '../reader/container-fields.ts'
import { containersOf, eachContainer, wholeContainer } from '../reader/container-view.ts'
import { parseCursor } from '../reader/event-stream.ts'
import type { FeedReader } from '../reader/feed.ts'
import { describeAmbiguity, findContainer } from '../reader/find-container.ts'
import { metricsText } from '../reader/metrics.ts'
import { everythingOf, refusalsOf, summaryOf } from '../reader/rows.ts'
import { briefly } from '../shared/briefly.ts'
import { HttpError } from './http-error.ts'
import { listOf, named, type Schema } from './schemas.ts'

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
  | { readonly kind: 'list'; readonly parts: Iterable<readonly unknown[]> }
  | { readonly kind: 'events'; readonly container: string | undefined; readonly options: QueryValues }

export interface ApiRoute {
  /** As OpenAPI writes it: `{id}` stands for one part. */
  readonly path: string
  readonly is: string
  readonly query: readonly Parameter[]
  /** Of the whole answer, or of a line of it. */
  readonly schema: Schema
  readonly type: 'text/plain; version=0.0.4' | 'application/json' | 'application/x-ndjson'
  answer(feed: () => FeedReader, values: QueryValues): Content
}

const flag: Schema = { enum: ['true', 'false'] }
const all: Parameter = { name: 'all', is: 'also those that have ended last', schema: flag }
const CONTAINER = 'its id, its name, or the beginning of its id'

/** @throws {HttpError} if there is none, or are several */
function containerIn(feed: FeedReader, word: string): ContainerView {
  const found = findContainer(containersOf(feed, true, 'last'), word)
  if (found.length > 1) throw new HttpError(409, describeAmbiguity(found, word))
  const whole = found[0] && wholeContainer(feed, found[0])
  if (whole) return whole
  throw new HttpError(
    404,
    `Cannot find container ${briefly(word)}: no container has that id or name; see /v1/containers`,
  )
}

const json = (value: unknown): Content => ({ kind: 'json', value })

/** One container after the other: of all together there may be 65,536. */
function* eachRefusals(feed: FeedReader): Generator<ReturnType<typeof refusalsOf>> {
  for (const view of eachContainer(feed, false, 'all', 'brief')) yield refusalsOf([view])
}

function statusOf({ directory }: FeedReader, views: readonly ContainerView[]): object {
  const { keeper, engine } = directory.state
  const { version = '', stuck = 0 } = directory.daemon
  const sum = (of: (view: ContainerView) => number): number => views.reduce((total, view) => total + of(view), 0)
  return {
    ...{ version, keeper, engine, containers: views.length, stuck },
    ...{ listeners: sum(({ about }) => Number(about.listeners)), inFlight: sum(({ inFlight }) => inFlight) },
  }
}

function eventsOf(feed: FeedReader, { container, ...options }: QueryValues): Content {
  try {
    if (options.after !== undefined) parseCursor(options.after)
  } catch (error) {
    throw new HttpError(400, (error as Error).message)
  }
  return { kind: 'events', container: container === undefined ? undefined : containerIn(feed, container).id, options }
}

export const apiRoutes: readonly ApiRoute[] = [
  {
    ...{ path: '/metrics', is: 'What was counted, for Prometheus', query: [], type: 'text/plain; version=0.0.4' },
    schema: { type: 'string' },
    answer: (feed) => ({ kind: 'metrics', text: () => metricsText(feed()) }),
  },
  {
    ...{ path: '/v1/status', is: 'The daemon', query: [], type: 'application/json', schema: named('Status') },
    answer: (feed) => json(statusOf(feed(), containersOf(feed(), false, 'last'))),
  },
  {
    ...{ path: '/v1/containers', is: 'The containers that are served', query: [all], type: 'application/json' },
    schema: listOf(named('Container')),
    answer: (feed, values) => json(containersOf(feed(), values.all === 'true', 'last').map(summaryOf)),
  },
  {
    ...{ path: '/v1/containers/{id}', is: 'Everything about one container', query: [], type: 'application/json' },
    schema: named('ContainerDetail'),
    answer: (feed, { id = '' }) => json(everythingOf(containerIn(feed(), id))),
  },
  {
    ...{ path: '/v1/containers/{id}/refusals', is: 'What was refused in one container', query: [] },
    ...{ type: 'application/json', schema: listOf(named('Refusal')) },
    answer: (feed, { id = '' }) => json(refusalsOf([containerIn(feed(), id)])),
  },
  {
    ...{ path: '/v1/refusals', is: 'What was refused, and what to change', query: [], type: 'application/json' },
    schema: listOf(named('Refusal')),
    answer: (feed) => ({ kind: 'list', parts: eachRefusals(feed()) }),
  },
  {
    ...{ path: '/v1/events', is: 'What happens: a line of JSON each', type: 'application/x-ndjson' },
    schema: named('Event'),
    query: [
      { name: 'container', is: CONTAINER, schema: { type: 'string' } },
      { name: 'follow', is: 'false to end with what is there already', schema: flag },
      {
        ...{ name: 'tail', is: 'so many lines of those that are there already' },
        schema: { type: 'string', pattern: '^\\d{1,9}$' },
      },
      { name: 'after', is: 'go on after an event, by its cursor', schema: { type: 'string' } },
    ],
    answer: (feed, values) => eventsOf(feed(), values),
  },
  {
    ...{ path: '/v1/reasons', is: 'All reasons that calls can have', query: [], type: 'application/json' },
    schema: listOf(named('Reason')),
    answer: () => json(Object.entries(reasons).map(([code, [says, remedy]]) => ({ code, says, remedy }))),
  },
]
