import { existsSync, fstatSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { escaped } from '../calls/escape.ts'
import { orElse } from '../kernel/error.ts'
import { FEED_SOCKET } from '../memories/feed-path.ts'
import type { WhichRefusals } from '../memories/read-counts.ts'
import type { ContainerView } from '../reader/container-fields.ts'
import { describeAmbiguity, eachContainer, findContainer } from '../reader/container-view.ts'
import { connect, type FeedReader } from '../reader/feed.ts'
import { findRuns, openRun } from '../reader/runs.ts'
import { briefly, shellWord } from '../shared/texts.ts'
import { userSocket } from './paths.ts'
import { say } from './print.ts'
import { NegativeAnswer, STATUS } from './usage.ts'

/** The options of the commands that read from a daemon, and print by a template. */
export interface ReadOptions {
  readonly format?: string
  readonly feed?: string
}

/** Returns the socket of a user's daemon if it is there and that user asks, else that of the host's. */
export function usualSocket(): string {
  const { XDG_RUNTIME_DIR: directory } = process.env
  if (process.getuid?.() === 0 || directory === undefined) return FEED_SOCKET
  const own = join(dirname(userSocket()), 'feed.sock')
  return existsSync(own) ? own : FEED_SOCKET
}

/** @throws {Error} if the daemon cannot be read */
export const openFeed = (path: string | undefined): FeedReader => connect(path ?? usualSocket())

/** @throws {Error} if it has ended */
export function openRunOf(id: string): FeedReader {
  const feed = findRuns().flatMap((run) => (run.id === id ? (openRun(run) ?? []) : []))[0]
  if (feed) return feed
  throw new NegativeAnswer(`Cannot read ${id}: it has ended; "intercede ps" lists what runs`)
}

/** What is read on this machine: a daemon, and each `intercede run`. */
export interface Feeds extends Disposable {
  /** Undefined where no daemon can be read, but a run. */
  readonly daemon: FeedReader | undefined
  /** Why no daemon can be read. */
  readonly missing: Error | undefined
  /** The daemon, and the runs that are there now. */
  readonly all: readonly FeedReader[]
  /** Opens the runs that there are by now. */
  renew(): void
  /** @param all also containers of the daemon that have ended last */
  containers(all?: boolean): readonly ContainerView[]
  /** The same for a list, one after the other. */
  list(all: boolean): Iterable<ContainerView>
}

/** @param path of a named socket, which is that of the only daemon that is meant: then there are no runs */
const openRuns = (path: string | undefined): readonly FeedReader[] =>
  path === undefined ? findRuns().flatMap((run) => openRun(run) ?? []) : []

/**
 * Opens all that may be read.
 *
 * @throws {Error} if the daemon cannot be read, and nothing else is there
 */
export function openFeeds(path: string | undefined): Feeds {
  let runs = openRuns(path)
  const { daemon, missing } = readDaemon(path)
  if (missing && runs.length === 0) throw missing
  const close = (): void => {
    for (const feed of runs) feed[Symbol.dispose]()
  }
  function* each(all: boolean, which: WhichRefusals): Generator<ContainerView> {
    if (daemon) yield* eachContainer(daemon, all, which)
    for (const feed of runs) for (const view of eachContainer(feed, false, which)) yield { ...view, runtime: RUN }
  }
  return {
    daemon,
    missing,
    get all() {
      return daemon ? [daemon, ...runs] : runs
    },
    renew() {
      close()
      runs = openRuns(path)
    },
    containers: (all = false) => [...each(all, 'all')],
    list: (all) => each(all, 'last'),
    [Symbol.dispose]() {
      daemon?.[Symbol.dispose]()
      close()
    },
  }
}

/** What stands for the runtime of a container of `intercede run`. */
export const RUN = 'run'

function readDaemon(path: string | undefined): Partial<Pick<Feeds, 'daemon' | 'missing'>> {
  try {
    return { daemon: openFeed(path) }
  } catch (error) {
    return { missing: error as Error }
  }
}

/** Says what is missing from a list of what runs; the exit status says so too. */
export function sayMissing({ missing }: Feeds): void {
  if (!missing) return
  say(`${missing.message}; only what "intercede run" has started is shown`)
  process.exitCode = STATUS.failure
}

const SHORT = 12
/** Shows an id as engines do. */
export const shortId = (id: string): string => escaped(/^[0-9a-f]{64}$/.test(id) ? id.slice(0, SHORT) : id)

/** Names a container in one line, by its id and, if it has one, its name. */
export const formatContainer = ({ id, name }: Pick<ContainerView, 'id' | 'name'>): string =>
  `${shortId(id)}${name === '' ? '' : ` (${escaped(name)})`}`

/** Returns the word of a shell that means this container and no other, whatever names the others have chosen. */
export function unmistakable(all: readonly ContainerView[], id: string): string {
  const isEnough = findContainer(all, shortId(id)).every((found) => found.id === id)
  return shellWord(isEnough ? shortId(id) : escaped(id))
}

/**
 * Finds the container that a word of the command line means.
 *
 * @param all of these feeds, also those that have ended
 * @throws {NegativeAnswer} if there is none
 * @throws {Error} if there are several, or there is none where a daemon could not be read
 */
export function requireContainer(
  feeds: Feeds,
  word: string,
  all: readonly ContainerView[] = feeds.containers(true),
): ContainerView {
  const found = findContainer(all, word)
  if (found.length === 0 && feeds.missing) throw feeds.missing
  if (found.length === 0)
    throw new NegativeAnswer(
      `Cannot find container ${briefly(word)}: no container has that id or name; "intercede ps --all" lists them`,
    )
  if (found.length > 1) throw new Error(describeAmbiguity(found, word))
  return found[0]!
}

/** Of a terminal that does not know its width, as a serial line, which says 0. */
const USUAL_WIDTH = 80

/** The width of the terminal; undefined where nothing is to be cut, for which Node's stream need not be loaded. */
export const terminalWidth = (): number | undefined =>
  isCharacterDevice(1) && process.stdout.isTTY ? process.stdout.columns || USUAL_WIDTH : undefined

const isCharacterDevice = (fd: number): boolean => orElse(false, () => fstatSync(fd).isCharacterDevice())

/** Says that what is listed of the refusals of a container is not all there was. */
export const formatDropped = ({ droppedRefusals: count, ...view }: ContainerView): string =>
  `${formatContainer(view)}: ${count} more ${count === 1 ? 'kind' : 'kinds'} of refusals made room for later ones`
