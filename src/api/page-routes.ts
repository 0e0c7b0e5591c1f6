import { now } from '../kernel/clock.ts'
import { orElse } from '../kernel/error.ts'
import type { DaemonTotals } from '../memories/daemon-totals.ts'
import type { RefusalView } from '../memories/refusal-view.ts'
import { lastHistory } from '../processes/installation.ts'
import { type CallRate, type CallSample, callRates, sampleCalls } from '../reader/call-rates.ts'
import { type ContainerView, RUN } from '../reader/container-fields.ts'
import {
  containersOf,
  countIn,
  everythingOf,
  pastViews,
  type RefusalRow,
  refusalsOf,
  stateWord,
  summaryOf,
  together,
  whichOf,
  wholeContainer,
} from '../reader/container-view.ts'
import { type FeedReader, NoDaemon } from '../reader/feed.ts'
import { readHistory } from '../reader/history.ts'
import { findRuns, openRun } from '../reader/runs.ts'
import { HttpError } from './bounds.ts'
import type { DaemonLink } from './daemon-link.ts'
import { containersIn } from './routes.ts'

/** What the page shows that only the commands know. */
export interface PageKnowledge {
  /** Whether it shows what `intercede run` has started, too: not if somebody named a daemon. */
  readonly showsRuns: boolean
  /**
   * Explains the refusals of a container, one of these, and says what to do.
   *
   * @param others the others of its profile, with all their refusals
   */
  explain(
    daemon: Partial<DaemonTotals>,
    all: readonly ContainerView[],
    view: ContainerView,
    others: readonly ContainerView[],
  ): readonly object[]
  /** Returns why a call of a container was refused, and what to do, where that depends on more than the reason. */
  remedyOf(view: ContainerView, refusal: RefusalView): Partial<RefusalView>
  /** Says what follows for containers that no daemon serves, and what to do; nothing for others. */
  hintsFor(views: readonly ContainerView[]): readonly string[]
  /** Returns what "intercede doctor" finds. */
  examine(): Promise<unknown>
}

/** The shortest time between two looks at the counts: rates are over at least so long. */
const LOOK_MS = 900
/** The most kinds of refusals of ended containers that are read from history. */
const MOST_KINDS = 5000
/** The shortest time between two looks at history while the daemon is away, and how many times longer than a look. */
const AWAY = { shortest: 2000, times: 20 }
const LOOK_AGAIN = { past: [], until: 0 }
const NO_PAST = { containers: [] }
const DAY_MS = 86_400_000

/** What there is now; without a daemon, why. */
interface Present {
  readonly views: readonly ContainerView[]
  readonly missing?: string
}

/** Whose events are asked for, and how they are read. */
interface EventSource {
  readonly id: string | undefined
  readonly open: () => FeedReader
  readonly lastWords?: string
}

/** Answers what the page asks for. Each value becomes JSON; only a stream of events is none. */
export class PageRoutes {
  readonly #daemon: DaemonLink
  readonly #knowledge: PageKnowledge
  readonly #runs = new Runs()
  /** The last looks at each daemon and run, by the id of its records. */
  #looks: ReadonlyMap<string, readonly CallSample[]> = new Map()
  /** Where the last daemon that was seen keeps it. */
  #history: string | undefined
  #away: { readonly past: readonly ContainerView[]; readonly until: number } = LOOK_AGAIN

  constructor(daemon: DaemonLink, knowledge: PageKnowledge) {
    this.#daemon = daemon
    this.#knowledge = knowledge
  }

  /** @throws {HttpError} if there is no such thing, or no daemon */
  answer(path: string): unknown {
    const [, name, number] = /^(\w+)(?:\/(\d+))?$/.exec(path) ?? []
    if (name === 'containers') return number === undefined ? this.#containers() : this.#container(Number(number))
    if (name === 'history' && number !== undefined) return this.#past(Number(number))
    if (name === 'daemon') return this.#status()
    if (name === 'doctor') return this.#knowledge.examine()
    throw new HttpError(404, 'Cannot answer: there is no such path')
  }

  /** @param serial of one container. @throws {HttpError} if it has gone */
  eventsOf(serial: string | undefined): EventSource {
    const open = (): FeedReader => this.#daemon.open()
    if (serial === undefined) return { id: undefined, open }
    const { id, runtime, state } = this.#find(Number(serial)).view
    if (isUnserved(state)) throw new HttpError(503, 'Cannot follow the container: no daemon is known to serve it')
    if (runtime !== RUN) return { id, open }
    return { id, open: () => requireRun(id), lastWords: 'the run has ended' }
  }

  close(): void {
    this.#runs.close()
    this.#daemon.close()
  }

  #containers(): object {
    const { views, missing } = this.#present(false)
    const rows = views.map((view) => ({ ...summaryOf(view), ...wordsOf(view) }))
    return { missing, containers: rows, rates: this.#rates(true) }
  }

  #container(serial: number): object {
    const { view, all, missing } = this.#find(serial)
    const whole = this.#wholeOf(view)
    if (!whole) throw new HttpError(404, 'Cannot find the container: it has ended, and was forgotten')
    const rates = this.#rates(false)?.filter(({ container }) => container === view.id)
    const others = this.#othersOf(whole, all)
    const refusals = this.#knowledge.explain(this.#served?.directory.daemon ?? {}, all, whole, others)
    const [hint] = this.#knowledge.hintsFor([whole])
    return { missing, container: { ...everythingOf(whole), ...wordsOf(whole), hint, refusals }, rates }
  }

  #find(serial: number): { readonly view: ContainerView; readonly all: readonly ContainerView[]; missing?: string } {
    const { views: all, ...missing } = this.#present(true)
    const view = all.find((each) => each.serial === serial)
    if (!view) throw new HttpError(404, 'Cannot find the container: it has ended, and was forgotten')
    return { view, all, ...missing }
  }

  /** What history has of a container that nobody serves is all that is known of it. */
  #wholeOf(view: ContainerView): ContainerView | undefined {
    if (isUnserved(view.state)) return view
    const found = this.#feeds.flatMap((feed) => wholeContainer(feed, view) ?? [])[0]
    return found && { ...found, runtime: view.runtime }
  }

  /** Returns the other containers of a profile. Reading all refusals of all takes time, so this is not done in vain. */
  #othersOf({ serial, about, refusals }: ContainerView, all: readonly ContainerView[]): readonly ContainerView[] {
    if (about.profile === undefined || !refusals.some(({ wants }) => wants)) return []
    const views = orElse(all, () => containersIn(this.#daemon, true, 'all'))
    return views.filter((view) => view.serial !== serial && view.about.profile === about.profile)
  }

  /** The daemon; undefined while it is away. */
  get #served(): FeedReader | undefined {
    return orElse(undefined, () => this.#daemon.feed)
  }

  /** The daemon, and each run. */
  get #feeds(): readonly FeedReader[] {
    return [this.#served ?? [], this.#runFeeds].flat()
  }

  get #runFeeds(): readonly FeedReader[] {
    return this.#knowledge.showsRuns ? this.#runs.feeds : []
  }

  /** Undefined if there is none: that of the host is not of a daemon that keeps none, or that somebody named. */
  get #historyAt(): string | undefined {
    return this.#history ?? (this.#served || !this.#knowledge.showsRuns ? undefined : lastHistory())
  }

  /** @param ended also those that ended recently. @throws {HttpError} if nothing can be read */
  #present(ended: boolean): Present {
    try {
      this.#history = this.#daemon.feed.directory.daemon.history ?? this.#history
      const views = [...containersIn(this.#daemon, ended), ...runsIn(this.#runFeeds, 'last')]
      this.#away = LOOK_AGAIN
      return { views }
    } catch (error) {
      if (!(error instanceof HttpError)) throw error
      return { views: this.#withoutDaemon(error), missing: this.#shownWithout(error) }
    }
  }

  #shownWithout({ message }: HttpError): string {
    return `${message}; only history${this.#knowledge.showsRuns ? ' and what "intercede run" has started' : ''} is shown`
  }

  /** Says why there is no daemon, and what is shown; undefined if there is one. */
  get #missing(): string | undefined {
    try {
      void this.#daemon.feed
      return undefined
    } catch (error) {
      return this.#shownWithout(error as HttpError)
    }
  }

  /** Returns what "intercede ps" lists without a daemon. */
  #withoutDaemon(error: HttpError): readonly ContainerView[] {
    const start = now()
    const at = this.#historyAt
    if (at === undefined) throw error
    if (start >= this.#away.until) {
      const { containers } = orElse(NO_PAST, () => readHistory(at, Date.now() - DAY_MS))
      this.#away = { past: pastViews(containers), until: now() + Math.max(AWAY.shortest, AWAY.times * (now() - start)) }
    }
    // One that hangs, or that we may not ask, may serve what history has.
    const isGone = error.cause instanceof NoDaemon
    const past = this.#away.past.map((view) =>
      view.state === 'unserved' && !isGone ? { ...view, state: 'unknown' as const } : view,
    )
    const all = together(runsIn(this.#runFeeds, 'last'), past, new Map())
    const views = all.filter(({ state }) => state !== 'ended')
    if (views.length === 0) throw error
    return views
  }

  /** Returns the rates since the last look; undefined at the first one. */
  #rates(isWhole: boolean): readonly CallRate[] | undefined {
    const at = now()
    this.#looks = new Map(
      this.#feeds.map((feed) => {
        const looks = this.#looks.get(feed.records.id) ?? []
        const last = looks.at(-1)
        return [feed.records.id, last && at - last.at < LOOK_MS ? looks : [...looks, sampleCalls(feed, at)].slice(-2)]
      }),
    )
    const pairs = [...this.#looks.values()].flatMap(([one, other]) => (one && other ? [[one, other] as const] : []))
    return pairs.length === 0 ? undefined : pairs.flatMap(([one, other]) => callRates(one, other, isWhole))
  }

  /** @param since in milliseconds since 1970 */
  #past(since: number): object {
    const [missing, daemon] = [this.#missing, this.#served]
    this.#history = daemon?.directory.daemon.history ?? this.#history
    const at = this.#historyAt
    if (at === undefined) {
      const why = missing ? 'only the daemon knows where it is' : 'the daemon keeps none, as history.path says'
      throw new HttpError(503, `Cannot read history: ${why}`)
    }
    try {
      const past = readHistory(at, since, '', { most: MOST_KINDS, since })
      const shown = [...(daemon ? containersOf(daemon, true) : []), ...runsIn(this.#runFeeds, 'all')]
      const views = together(shown, pastViews(past.containers), past.unread)
      const unread = [...past.unread.values()].reduce((sum, count) => sum + count, 0)
      const all = views.flatMap((view) => this.#rememberedOf(view, since))
      const refusals = all.sort((one, other) => other.count - one.count)
      const { lost, corrupt } = past
      return { missing, begun: new Date(past.begun).toISOString(), lost, corrupt, unread, refusals }
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      const why = code === 'EACCES' ? 'only root and members of the group intercede may' : message
      throw new HttpError(503, `Cannot read history in ${at}: ${why}`)
    }
  }

  /** Returns the refusals of a container, with what to do where that depends on more than the reason. */
  #rememberedOf(view: ContainerView, since: number): readonly (RefusalRow & { readonly isLeast?: boolean })[] {
    const isLeast = view.countedUntil === undefined ? {} : { isLeast: true }
    return refusalsOf([view])
      .filter(({ time }) => time >= since)
      .map((row) => ({ ...row, ...this.#knowledge.remedyOf(view, row), ...isLeast }))
  }

  #status(): object {
    const { directory } = this.#daemon.feed
    const { keeper, engine } = directory.state
    const views = containersIn(this.#daemon, false)
    const most = (of: (view: ContainerView) => unknown): object => {
      const [first] = [...views].sort((one, other) => Number(of(other) ?? 0) - Number(of(one) ?? 0))
      return first ? { value: Number(of(first) ?? 0), ...whichOf(first) } : { value: 0 }
    }
    return {
      ...{ keeper, engine },
      daemon: directory.daemon,
      containers: views.length,
      unserved: this.#daemon.unserved()?.length,
      most: {
        callsPerContainer: most(({ inFlight }) => inFlight),
        listenersPerContainer: most(({ about }) => about.listeners),
        kept: most(({ kept }) => kept),
      },
    }
  }
}

/** What "intercede ps" says of it. */
const wordsOf = (view: ContainerView): object => ({ stateWord: stateWord(view), callsWord: countIn('calls')(view) })

const isUnserved = (state: string): boolean => state === 'unserved' || state === 'unknown'

const runsIn = (feeds: readonly FeedReader[], which: 'all' | 'last'): readonly ContainerView[] =>
  feeds.flatMap((feed) => containersOf(feed, false, which).map((view) => ({ ...view, runtime: RUN })))

/** @throws {HttpError} if it has ended */
function requireRun(id: string): FeedReader {
  const feed = findRuns().flatMap((run) => (run.id === id ? (openRun(run) ?? []) : []))[0]
  if (!feed) throw new HttpError(404, 'Cannot read the run: it has ended')
  return feed
}

/** The runs of this machine that may be read. Each is opened once. */
class Runs {
  readonly #open = new Map<string, FeedReader>()
  #lookedAt = Number.NEGATIVE_INFINITY

  get feeds(): readonly FeedReader[] {
    if (now() - this.#lookedAt >= LOOK_MS) this.#look()
    return [...this.#open.values()]
  }

  #look(): void {
    this.#lookedAt = now()
    const found = findRuns()
    for (const [id, feed] of this.#open) {
      if (found.some((run) => run.id === id)) continue
      feed[Symbol.dispose]()
      this.#open.delete(id)
    }
    for (const run of found) {
      const feed = this.#open.has(run.id) ? undefined : openRun(run)
      if (feed) this.#open.set(run.id, feed)
    }
  }

  close(): void {
    for (const feed of this.#open.values()) feed[Symbol.dispose]()
    this.#open.clear()
  }
}
