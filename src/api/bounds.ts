/** What clients of the server may take of it, however many they are and whatever they send. */

/** Connections at once to each listening socket; what is more is closed at once. */
export const CONNECTIONS = 64
/** Requests on one connection; the last one's answer closes it. Each leaves memory that is collected later. */
export const REQUESTS = 16
/** The head of a request, in bytes and milliseconds. */
export const HEAD_BYTES = 8 * 1024
export const HEAD_MS = 5000
/** How often it is looked for connections that have not sent their head in time. */
export const LOOK_MS = 1000
/** A connection on which nothing moves for so long, neither in nor out, is closed; a stream of events is not. */
export const QUIET_MS = 10_000
/** What waits for the client of a stream, in bytes; and how long a client may take to read it. */
export const STREAM_BYTES = 256 * 1024
export const STREAM_MS = 5000
/** What waits for all clients of a listening socket but those of streams, in bytes. */
export const ANSWERS_BYTES = 32 * 1024 * 1024
/** What waits for the client of a long list, in bytes. */
export const LIST_BYTES = 64 * 1024
/** How long metrics are given out again, at least, and how many times as long as it took to make them. */
export const METRICS_MS = 1000
export const METRICS_TIMES = 3
/** Calls of a stream in a second; the rest is counted as lost. */
export const STREAM_RATE = 2000
/** How long the server stays without a connection, if systemd starts it again for the next. */
export const IDLE_MS = 60_000
/** How long an answer of the daemon is waited for: others wait meanwhile. */
export const DAEMON_MS = 1000

/** An answer other than 200. Its message is for the person who asked. */
export class HttpError extends Error {
  override readonly name = 'HttpError'
  readonly status: number

  constructor(status: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.status = status
  }
}
