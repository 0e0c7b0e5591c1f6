import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { escaped } from '../calls/escape.ts'
import { FEED_SOCKET } from '../memories/feed-path.ts'
import { type ContainerView, containersOf, findContainer } from '../reader/container-view.ts'
import { connect, type FeedReader } from '../reader/feed.ts'
import { userSocket } from './sockets.ts'
import { NegativeAnswer } from './usage.ts'

/** Returns the socket of a user's daemon if it is there and that user asks, else that of the host's. */
function usualSocket(): string {
  const { XDG_RUNTIME_DIR: directory } = process.env
  if (process.getuid?.() === 0 || directory === undefined) return FEED_SOCKET
  const own = join(dirname(userSocket()), 'feed.sock')
  return existsSync(own) ? own : FEED_SOCKET
}

/** @throws {Error} if the daemon cannot be read */
export const openFeed = (path: string | undefined): FeedReader => connect(path ?? usualSocket())

const SHORT = 12
/** Shows an id as engines do. */
export const shortId = (id: string): string => escaped(/^[0-9a-f]{64}$/.test(id) ? id.slice(0, SHORT) : id)

/**
 * Finds the container that a word of the command line means, also one that has ended.
 *
 * @throws {NegativeAnswer} if there is none
 * @throws {Error} if there are several
 */
export function requireContainer(feed: FeedReader, word: string): ContainerView {
  const found = findContainer(containersOf(feed, true), word)
  if (found.length === 0)
    throw new NegativeAnswer(
      `Cannot find container ${JSON.stringify(word)}: no container has that id or name; "intercede ps --all" lists them`,
    )
  if (found.length > 1)
    throw new Error(
      `Cannot tell which container ${JSON.stringify(word)} is: ${found.map(({ id }) => shortId(id)).join(', ')} begin so; give more of its id`,
    )
  return found[0]!
}

/** The width of the terminal; undefined where nothing is to be cut. */
export const terminalWidth = (): number | undefined => (process.stdout.isTTY ? process.stdout.columns : undefined)
