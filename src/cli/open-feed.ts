import { accessSync, constants, existsSync, fstatSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { syscallNames } from '../abi/syscalls.ts'
import { escaped, isoTime } from '../calls/escape.ts'
import { orElse } from '../kernel/error.ts'
import { isAbandoned } from '../kernel/fd.ts'
import type { DaemonTotals } from '../memories/daemon-totals.ts'
import type { WhichRefusals } from '../memories/read-counts.ts'
import { FEED_SOCKET, HISTORY, HISTORY_FILES, lastHistory } from '../processes/installation.ts'
import { type ContainerView, LXC, number, RUN, shownName } from '../reader/container-fields.ts'
import {
  describeAmbiguity,
  eachContainer,
  findContainer,
  findNow,
  isCalled,
  isLikeId,
  joinOutlived,
  namesakesOf,
  pastViews,
  together,
} from '../reader/container-view.ts'
import { connect, DaemonSilent, type FeedReader, NoDaemon } from '../reader/feed.ts'
import { type Few, type PastLines, readHistory } from '../reader/history.ts'
import { findRuns, openRun } from '../reader/runs.ts'
import { userState } from '../runtimes/flags.ts'
import { briefly, counted, didYouMean, fewOf, shellWord, shortenedId } from '../shared/texts.ts'
import { userSocket } from './paths.ts'
import { READER_GONE, say } from './print.ts'
import { NegativeAnswer, STATUS } from './usage.ts'

/** The options of the commands that read from a daemon and its history, and print by a template. */
export interface ReadOptions {
  readonly format?: string
  readonly feed?: string
  readonly history?: string
}

/** Returns the socket of the asking user's own daemon; undefined for root, and outside a session. */
const ownSocket = (): string | undefined =>
  process.getuid?.() === 0 ? undefined : orElse(undefined, () => join(dirname(userSocket()), 'feed.sock'))

/** Returns the socket of a user's daemon if it is there and that user asks, else that of the host's. */
export function usualSocket(): string {
  const own = ownSocket()
  return own !== undefined && existsSync(own) ? own : FEED_SOCKET
}

/** Returns where history was kept last by the daemon of the user who asks, if it has kept any, else by the host's. */
function usualHistory(): string {
  const own = userState()
  return ownSocket() !== undefined && existsSync(own) ? lastHistory(own) : lastHistory()
}

/** Tells a user, who cannot start a service of the host, how to start a daemon. */
function forUser(error: unknown): unknown {
  const [own, start] = [ownSocket(), 'for your own containers, start "podman unshare intercede serve --user"']
  if (own === undefined || !(error instanceof Error) || error instanceof DaemonSilent) return error
  if (!(error instanceof NoDaemon)) error.message += `; ${start}`
  else if (existsSync(own)) error.message = `Cannot read "${own}": no daemon answers there; ${start}`
  else error.message = `Cannot read "${own}": there is no such socket, and no daemon of the host; ${start}`
  return error
}

/** Returns the command for the same daemon. @param path of its socket, if it was named */
export const at = (path: string | undefined, command: string): string =>
  path === undefined ? command : `${command} --feed ${shellWord(path)}`

/** @throws {Error} if the daemon cannot be read */
export function openFeed(path: string = usualSocket()): FeedReader {
  try {
    return connect(path)
  } catch (error) {
    throw path === usualSocket() ? forUser(error) : error
  }
}

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
  /** The socket by which the daemon was named. */
  readonly path: string | undefined
  /** Where history is that can be read; if it cannot, that was said. */
  readonly historyAt: string | undefined
  /** Whether that is of another daemon than the one that is asked. */
  readonly isOfOther: boolean
  /** Whether the daemon says that it keeps none. */
  readonly keepsNone: boolean
  /** How many lines history lacks, and when it begins, as far as it was read last; 0 if that was said. */
  readonly gaps: Pick<PastLines, 'lost' | 'begun'>
  /** The daemon, and the runs that are there now. */
  readonly all: readonly FeedReader[]
  /**
   * What happened before, the oldest first; nothing if no history is kept.
   *
   * @param since in milliseconds since 1970
   * @param word leaves out containers of history which it cannot mean
   */
  past(since: number, word?: string): PastLines
  /** Opens the runs that there are by now. */
  renew(): void
  /**
   * @param all also containers of the daemon that have ended last
   * @param since also containers that history has from this time on
   * @param word leaves out those of history which it cannot mean
   */
  containers(all?: boolean, since?: number, word?: string): readonly ContainerView[]
  /** All containers, but of history only a few; how many kinds of refusals its others have is `unread`. */
  newest(
    ...what: readonly [since: number, word?: string, few?: Few]
  ): Pick<PastLines, 'unread'> & { readonly views: readonly ContainerView[] }
  /** The same for a list, one after the other. */
  list(all: boolean): Iterable<ContainerView>
}

/** @param path of a named socket, which is that of the only daemon that is meant: then there are no runs */
const openRuns = (path: string | undefined): readonly FeedReader[] =>
  path === undefined ? findRuns().flatMap((run) => openRun(run) ?? []) : []

/** Where history is; without a directory, where the daemon keeps it. */
export interface HistorySource {
  readonly directory?: string | undefined
  /** Of a command without the option --history. */
  readonly isUsual?: true
  /** The time from which somebody wants it, in milliseconds since 1970. */
  readonly since?: number | undefined
}

/** How long ago a container may have ended to be in a list. */
const LISTED_MS = 86_400_000
export const listedSince = (): number => Date.now() - LISTED_MS

const NOTHING: PastLines = { containers: [], events: [], unread: new Map(), begun: 0, lost: 0, corrupt: 0 }

const directoryOf = (daemon: FeedReader | undefined, path: string | undefined): string | undefined =>
  daemon ? daemon.directory.daemon.history : path === undefined || path === FEED_SOCKET ? usualHistory() : undefined

/** Makes a reader of history, which says once what it lacks; undefined if there is none. */
function pastIn({
  directory,
  since,
}: HistorySource): ((...what: Parameters<Feeds['newest']>) => PastLines) | undefined {
  if (directory === undefined) return undefined
  try {
    statSync(directory)
  } catch (error) {
    if (directory !== HISTORY) say(`Cannot read history in "${directory}": ${(error as Error).message}`)
    return undefined
  }
  const file = join(directory, HISTORY_FILES.now)
  if (existsSync(file) && !orElse(false, () => accessSync(file, constants.R_OK) === undefined)) {
    say(`Cannot read history in "${directory}": only root and members of the group intercede may`)
    return undefined
  }
  let said = false
  let isBeginSaid = false
  const sayOnce = (text: string): void => {
    if (!said) say(text)
    said = true
  }
  return (...what) => {
    try {
      const past = readHistory(directory, ...what)
      if (!isBeginSaid && past.begun > (since ?? Number.POSITIVE_INFINITY)) {
        say(`History begins at ${isoTime(past.begun)}: what happened before is not known`)
        isBeginSaid = true
      }
      if (past.corrupt > 0)
        sayOnce(
          `${counted(past.corrupt, 'line')} of history in "${directory}" cannot be read, and ${past.corrupt === 1 ? 'is' : 'are'} left out`,
        )
      return isBeginSaid ? { ...past, begun: 0 } : past
    } catch (error) {
      sayOnce(`Cannot read history in "${directory}": ${(error as Error).message}`)
      return NOTHING
    }
  }
}

/**
 * Opens all that may be read.
 *
 * @param history if history is read too
 * @throws {Error} if the daemon cannot be read, and nothing else is there
 */
export function openFeeds(path: string | undefined, history?: HistorySource): Feeds {
  const named = history?.directory
  if (named !== undefined && !Object.values(HISTORY_FILES).some((name) => existsSync(join(named, name))))
    throw new Error(
      `Cannot read history in ${briefly(named)}: ${existsSync(named) ? 'there is none' : 'it is not there'}; name another directory`,
    )
  let runs = openRuns(path)
  const { daemon, missing } = readDaemon(path)
  const historyIn = history && (named ?? directoryOf(daemon, path))
  const reader = history && pastIn({ ...history, directory: historyIn })
  let [begun, lost] = [0, 0]
  const past: typeof reader =
    reader &&
    ((...what) => {
      const known = reader(...what)
      ;[begun, lost] = [known.begun, known.lost]
      return known
    })
  if (missing && runs.length === 0 && !past) {
    // Where a daemon of another socket keeps its history, only that daemon says.
    const isGone = missing instanceof NoDaemon || missing instanceof DaemonSilent
    if (isGone && history && !history.isUsual && named === undefined && path !== undefined)
      missing.message += '; add --history DIRECTORY to see what it has kept'
    throw missing
  }
  const close = (): void => {
    for (const feed of runs) feed[Symbol.dispose]()
  }
  function* each(all: boolean, which: WhichRefusals): Generator<ContainerView> {
    if (daemon) yield* eachContainer(daemon, all, which)
    for (const feed of runs) for (const view of eachContainer(feed, false, which)) yield { ...view, runtime: RUN }
  }
  const kept = daemon ? daemon.directory.daemon.history : path === undefined ? usualHistory() : named
  const isOfOther = named !== undefined && (kept === undefined || resolve(named) !== resolve(String(kept)))
  // A daemon that hangs, or that we may not or do not ask, may serve what history has. Any serves LXC's at their next
  // call.
  const isUnknown = isOfOther || (missing !== undefined && !(missing instanceof NoDaemon))
  const mayBeServed = ({ runtime }: ContainerView): boolean => isUnknown || (daemon !== undefined && runtime === LXC)
  function views(all: boolean, which: WhichRefusals, known: PastLines | undefined): Iterable<ContainerView> {
    if (!known) return all ? joinOutlived([...each(all, which)]) : each(all, which)
    const old = pastViews(known.containers)
    // What is executed in a container that outlived its daemon has its own end, and is a part of it.
    const withEnded = all || old.some(({ state }) => state === 'unserved')
    const joined = together(
      [...each(withEnded, which)],
      old.map((view) => (view.state === 'unserved' && mayBeServed(view) ? { ...view, state: 'unknown' } : view)),
      known.unread,
    )
    return all ? joined : joined.filter(({ state }) => state !== 'ended')
  }
  // A daemon between that one and this may have counted some of it, too.
  function pastOf(all: boolean, word = ''): PastLines | undefined {
    const known = past?.(all ? listedSince() : Date.now(), word)
    return !all && known?.containers.some(({ unserved }) => unserved) ? past?.(listedSince(), word) : known
  }
  return {
    daemon,
    missing,
    path,
    historyAt: past && historyIn,
    isOfOther,
    keepsNone: !past && daemon !== undefined && daemon.directory.daemon.history === undefined,
    get gaps() {
      return { begun, lost: lost + number(daemon?.directory.daemon.historyLost) }
    },
    get all() {
      return daemon ? [daemon, ...runs] : runs
    },
    renew() {
      close()
      runs = openRuns(path)
    },
    past: (since, word) => past?.(since, word) ?? NOTHING,
    containers: (all = false, since, word = '') => [
      ...views(all, 'all', since === undefined ? pastOf(all, word) : past?.(since, word)),
    ],
    newest(...what) {
      const known = past?.(...what)
      return { views: [...views(true, 'all', known)], unread: (known ?? NOTHING).unread }
    },
    list: (all) => views(all, 'last', pastOf(all)),
    [Symbol.dispose]() {
      daemon?.[Symbol.dispose]()
      close()
    },
  }
}

function readDaemon(path: string | undefined): Partial<Pick<Feeds, 'daemon' | 'missing'>> {
  try {
    return { daemon: openFeed(path) }
  } catch (error) {
    return { missing: error as Error }
  }
}

/** Says what becomes of calls while no engine serves. */
export function withoutEngine({ engines, nextEngine }: Pick<DaemonTotals, 'engines' | 'nextEngine'>): string {
  const seconds = Math.ceil((Number(nextEngine) - Date.now()) / 1000)
  if (seconds > 0)
    return `calls are left to the kernel, because engines keep failing; the next one is tried in ${seconds}s`
  return engines === undefined
    ? 'the daemon is starting, and calls wait until it serves'
    : 'calls wait for the next one'
}

/** Says what is missing from a list of what runs; the exit status says so too. */
export function sayMissing({ missing, historyAt, isOfOther, daemon, path }: Feeds): void {
  if (isOfOther)
    say(
      `History in ${briefly(historyAt!)} is not that of the daemon at ${briefly(path ?? usualSocket())}: what is served now is not known; name the feed socket of its own daemon with --feed`,
    )
  if (daemon?.directory.state.engine === 0) say(`No engine serves now: ${withoutEngine(daemon.directory.daemon)}`)
  if (!missing) return
  say(
    `${missing.message}; only ${historyAt === undefined ? '' : `history in ${briefly(historyAt)} and `}what "intercede run" has started is shown`,
  )
  process.exitCode = STATUS.failure
}

/** Says, after history was read for a list, that it may lack some of it. */
export function sayLost({ gaps: { lost }, historyAt, daemon, isOfOther }: Feeds): void {
  const flaw = isOfOther ? undefined : daemon?.directory.daemon.historyFlaw
  if (flaw !== undefined && historyAt !== undefined) say(`History has nothing of this daemon: ${escaped(flaw)}`)
  if (lost > 0)
    say(`History lacks at least ${counted(lost, 'line')} that could not be written: more may have been refused`)
}

/** Shows an id as engines do. */
export const shortId = (id: string): string => escaped(shortenedId(id))

/** Names a container in one line, by its id and, if it has one, its name. */
export function formatContainer({ id, ...names }: Named): string {
  const name = shownName(names)
  return `${shortId(id)}${name === '' ? '' : ` (${escaped(name)})`}`
}

/** Whether an engine judges the container's calls by its keys now. */
export const isJudged = ({ state }: Pick<ContainerView, 'state'>): boolean => state === 'served' || state === 'observed'
/** Whether a daemon, or a run, has the container now. */
export const isServed = (view: Pick<ContainerView, 'state'>): boolean => isJudged(view) || view.state === 'left'

/** Says why all calls of a container are left to the kernel; empty if they are not. */
export function whyLeft({ about }: Pick<ContainerView, 'about'>): string {
  const barred = about.barred as { readonly says: string; readonly remedy: string } | undefined
  return barred ? escaped(`${barred.says}${barred.remedy ? `: ${barred.remedy}` : ''}`) : ''
}

/**
 * Finds out which containers their names tell from all others of a list: not those that share a name, or whose name is
 * the id of another or looks like one. A container without a name is listed by its id anyway.
 */
export function aloneAmong(all: readonly Named[]): (of: Named) => boolean {
  const counts = new Map<string, number>()
  for (const { id, ...names } of all)
    for (const word of new Set([id, shownName(names)])) counts.set(word, (counts.get(word) ?? 0) + 1)
  return ({ id, ...names }) => {
    const name = shownName(names)
    return name === '' || ((counts.get(name) ?? 0) <= 1 && (name === id || !isLikeId(name)))
  }
}
interface Named {
  readonly id: string
  readonly name?: string | undefined
  readonly namespace?: string | undefined
  readonly pod?: string | undefined
}

/**
 * Returns the word of a shell that means this container and no other, whatever names the others have chosen. No id is
 * taken for an option.
 */
export function unmistakable(all: readonly ContainerView[], id: string): string {
  const isEnough = findContainer(all, shortId(id)).every((found) => found.id === id)
  const word = shellWord(isEnough ? shortId(id) : escaped(id))
  return id.startsWith('-') ? `-- ${word}` : word
}

/** Says how many lines history lacks; what a daemon that was killed could not write is not counted. */
export const historyLacks = (lost: number): readonly string[] =>
  lost > 0 ? [`history lacks at least ${counted(lost, 'line')} that could not be written`] : []

const known = ({ path }: Feeds): string =>
  `"${at(path, 'intercede ps --all')}" lists those that were started with a filter of intercede, and of "intercede run" those that run`

/**
 * Finds the container that a word of the command line means.
 *
 * @param all of these feeds, also those that have ended
 * @param reasons the codes that the word may be, too
 * @throws {NegativeAnswer} if there is none
 * @throws {Error} if there are several, or there is none where a daemon could not be read
 */
export function requireContainer(
  feeds: Feeds,
  word: string,
  all: readonly ContainerView[] = feeds.containers(true, 0, word),
  reasons: readonly string[] = [],
): ContainerView {
  const found = findNow(all, word)
  // No name that looks like an id is taken for one.
  const called = found.length === 0 ? all.filter((view) => isCalled(view, word)).map(({ id }) => shortId(id)) : []
  if (called.length > 0)
    throw new NegativeAnswer(
      `Cannot find container ${briefly(word)}: no id begins so; it is the name of ${fewOf([...new Set(called)])}: use that`,
    )
  if (found.length === 0 && feeds.missing)
    throw new Error(
      `${feeds.missing.message}; ${feeds.historyAt === undefined ? 'and there is no history here: name its directory with --history' : `history in "${feeds.historyAt}" has no container ${briefly(word)} either`}`,
    )
  if (found.length === 0) {
    const { lost, begun } = feeds.gaps
    const why = [
      ...(feeds.keepsNone
        ? ['the daemon keeps no history, so it does not know those that ended long ago, or outlived an earlier daemon']
        : []),
      ...(begun > 0 ? [`history begins at ${isoTime(begun)}`] : []),
      ...historyLacks(lost),
    ]
    const what =
      reasons.length === 0
        ? `Cannot find container ${briefly(word)}: no container has that id or name`
        : `Cannot find container or reason ${briefly(word)}: none has that name`
    const hint = didYouMean(word, reasons)
    if (reasons.length > 0 && syscallNames.includes(word))
      why.push(`to ask about a call, give it to --if, such as --if 'mknod("/n", S_IFCHR|0666, 1:3)'`)
    throw new NegativeAnswer(hint === '' ? [what, known(feeds), ...why].join('; ') : `${what}${hint}`)
  }
  if (found.length > 1) throw new Error(describeAmbiguity(found, word))
  const namesakes = found[0]!.id === word ? namesakesOf(all, word) : []
  if (namesakes.length > 0)
    say(`${briefly(word)} is taken as an id; it is also the name of ${fewOf(namesakes.map(({ id }) => shortId(id)))}`)
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

const LOOK_MS = 100
/** Ends a command that waits for news when nobody reads its output any more: it may have nothing to print for hours. */
export function endWithReader(): void {
  const look = (): void => {
    if (isAbandoned(1)) process.exit(READER_GONE)
  }
  setInterval(look, LOOK_MS).unref()
}
