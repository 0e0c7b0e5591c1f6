import type { ServerResponse } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { shownJson } from '../calls/escape.ts'
import { concerns, EventStream, type EventView } from '../reader/event-stream.ts'
import type { FeedReader } from '../reader/feed.ts'
import { LIST_BYTES, STREAM_BYTES, STREAM_MS, STREAM_RATE } from './bounds.ts'
import type { QueryValues } from './routes.ts'

interface Wanted {
  readonly container: string | undefined
  readonly options: QueryValues
  readonly isHead: boolean
  /** The most calls of a second. */
  readonly rate?: number
  /** See `EventStream`. */
  readonly lastWords?: string | undefined
}

const lineOf = (event: EventView): string => `${shownJson(event)}\n`

/**
 * Streams events, a line each, until the client goes.
 *
 * @returns false if the client has not read what waited for it, and was cut off
 */
export async function streamEvents(
  response: ServerResponse,
  open: () => FeedReader,
  { container, options: { after, follow = 'true', tail }, isHead, rate = STREAM_RATE, lastWords }: Wanted,
): Promise<boolean> {
  const end = new AbortController()
  const stop = (): void => end.abort()
  // An answer that waits behind another one is not told that its connection has ended.
  const { socket } = response.req
  socket.once('close', stop)
  response.once('close', () => {
    socket.off('close', stop)
    stop()
  })
  using stream = new EventStream({
    ...{ connect: open, follow: follow === 'true', rate, after, lastWords },
    tail: tail === undefined ? undefined : Number(tail),
    wanted: container === undefined ? undefined : (event) => concerns(event, container),
  })
  response.writeHead(200)
  response.flushHeaders()
  if (isHead) {
    response.end()
    return true
  }
  for await (const event of stream.events(end.signal)) {
    response.write(lineOf(event))
    if (response.writableLength <= STREAM_BYTES || (await isRead(response))) continue
    response.destroy()
    return false
  }
  response.end()
  return true
}

/**
 * Streams a list as one value of JSON. It is never in memory as a whole, and others have their turn after each part.
 *
 * @param parts of the list, made when their turn comes
 * @returns false if the client has not read what waited for it, and was cut off
 */
export async function streamList(response: ServerResponse, parts: Iterable<readonly unknown[]>): Promise<boolean> {
  let separator = '['
  for (const part of parts) {
    const text = part.map(shownJson).join(',')
    if (text !== '') response.write(`${separator}${text}`)
    if (text !== '') separator = ','
    await turn()
    if (response.destroyed) return true
    if (response.writableLength <= LIST_BYTES || (await isRead(response))) continue
    response.destroy()
    return false
  }
  response.end(separator === '[' ? '[]\n' : ']\n')
  return true
}

/** Waits until the client has read what waits for it, or has gone. @returns false if it does not */
const isRead = (response: ServerResponse): Promise<boolean> =>
  new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), STREAM_MS)
    const moved = (): void => {
      clearTimeout(timer)
      for (const event of ['drain', 'close']) response.off(event, moved)
      resolve(true)
    }
    for (const event of ['drain', 'close']) response.on(event, moved)
  })
