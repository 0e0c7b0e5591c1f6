import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { escapedAll } from '../calls/escape.ts'
import { EventStream } from '../reader/event-stream.ts'
import type { EventView } from '../reader/event-view.ts'
import type { FeedReader } from '../reader/feed.ts'
import { STREAM_BYTES, STREAM_MS, STREAM_RATE } from './bounds.ts'
import type { Values } from './routes.ts'

interface Wanted {
  readonly container: string | undefined
  readonly options: Values
  readonly isHead: boolean
}

const lineOf = (event: EventView): string =>
  `${JSON.stringify(escapedAll({ ...event, time: new Date(event.time).toISOString() }))}\n`

/**
 * Streams events, a line each, until the client goes.
 *
 * @returns false if the client has not read what waited for it, and was cut off
 */
export async function streamEvents(
  response: ServerResponse,
  open: () => FeedReader,
  { container, options: { after, follow = 'true', tail }, isHead }: Wanted,
): Promise<boolean> {
  const end = new AbortController()
  response.on('close', () => end.abort())
  using stream = new EventStream({
    ...{ connect: open, follow: follow === 'true', rate: STREAM_RATE, after },
    tail: tail === undefined ? undefined : Number(tail),
  })
  response.writeHead(200)
  response.flushHeaders()
  if (isHead) {
    response.end()
    return true
  }
  for await (const event of stream.events(end.signal)) {
    const isWanted = container === undefined || event.container === container || event.container === ''
    if (isWanted) response.write(lineOf(event))
    if (response.writableLength <= STREAM_BYTES || (await isRead(response, end.signal))) continue
    response.destroy()
    return false
  }
  response.end()
  return true
}

/** Waits until the client has read what waits for it. @returns false if it does not */
async function isRead(response: ServerResponse, gone: AbortSignal): Promise<boolean> {
  try {
    await once(response, 'drain', { signal: AbortSignal.any([gone, AbortSignal.timeout(STREAM_MS)]) })
    return true
  } catch {
    return gone.aborted
  }
}
