import { now } from '../kernel/clock.ts'
import { HISTORY } from '../processes/installation.ts'
import { type CallSample, callRates, sampleCalls } from '../reader/call-rates.ts'
import type { ContainerView } from '../reader/container-fields.ts'
import { everythingOf, pastViews, refusalsOf, summaryOf, whichOf } from '../reader/container-view.ts'
import type { FeedReader } from '../reader/feed.ts'
import { readHistory } from '../reader/history.ts'
import { HttpError } from './bounds.ts'
import type { DaemonLink } from './daemon-link.ts'
import { containersIn, wholeIn } from './routes.ts'

/** What the page shows that only the commands know. */
export interface PageKnowledge {
  /** Explains the refusals of a container, one of these, and says what to do. */
  explain(feed: FeedReader, all: readonly ContainerView[], view: ContainerView): readonly object[]
  /** Returns what "intercede doctor" finds. */
  examine(): Promise<unknown>
}

/** The shortest time between two looks at the counts: rates are over at least so long. */
const LOOK_MS = 900
const DAY_MS = 86_400_000
/** The most kinds of refusals of ended containers that are read from history. */
const MOST_KINDS = 5000

/** Answers what the page asks for. Each value becomes JSON; only a stream of events is none. */
export class PageRoutes {
  readonly #daemon: DaemonLink
  readonly #knowledge: PageKnowledge
  #feed: FeedReader | undefined
  #looks: readonly CallSample[] = []
  #history = HISTORY

  constructor(daemon: DaemonLink, knowledge: PageKnowledge) {
    this.#daemon = daemon
    this.#knowledge = knowledge
  }

  /** @throws {HttpError} if there is no such thing, or no daemon */
  answer(path: string): unknown {
    const [, name, serial] = /^(\w+)(?:\/(\d+))?$/.exec(path) ?? []
    if (name === 'containers') return serial === undefined ? this.#containers() : this.#container(Number(serial))
    if (name === 'history' && serial !== undefined) return this.#past(Number(serial))
    if (name === 'daemon') return this.#status()
    if (name === 'doctor') return this.#knowledge.examine()
    throw new HttpError(404, 'Cannot answer: there is no such path')
  }

  /** Returns the container whose events are asked for; undefined for all. @throws {HttpError} if it has gone */
  idOf(serial: string | undefined): string | undefined {
    return serial === undefined ? undefined : this.#find(Number(serial)).view.id
  }

  #containers(): object {
    const rates = this.#rates(true)
    return { ...this.#heading(), containers: containersIn(this.#daemon, false).map(summaryOf), rates }
  }

  #container(serial: number): object {
    const { view, all } = this.#find(serial)
    const whole = wholeIn(this.#daemon, view)
    if (!whole) throw new HttpError(404, 'Cannot find the container: it has ended, and was forgotten')
    const rates = this.#rates(false)?.filter(({ container }) => container === view.id)
    const explained = this.#knowledge.explain(this.#daemon.feed, all, whole)
    return { ...this.#heading(), container: { ...everythingOf(whole), refusals: explained }, rates }
  }

  #find(serial: number): { readonly view: ContainerView; readonly all: readonly ContainerView[] } {
    const all = containersIn(this.#daemon, true)
    const view = all.find((each) => each.serial === serial)
    if (!view) throw new HttpError(404, 'Cannot find the container: it has ended, and was forgotten')
    return { view, all }
  }

  #heading(): object {
    const { keeper, engine } = this.#daemon.feed.directory.state
    return { keeper, engine }
  }

  /** Returns the rates since the last look; undefined at the first one. */
  #rates(isWhole: boolean): ReturnType<typeof callRates> | undefined {
    const { feed } = this.#daemon
    if (feed !== this.#feed) this.#looks = []
    this.#feed = feed
    const last = this.#looks.at(-1)
    if (!last || now() - last.at >= LOOK_MS) this.#looks = [...this.#looks, sampleCalls(feed, now())].slice(-2)
    const [one, other] = this.#looks
    return one && other && callRates(one, other, isWhole)
  }

  #past(days: number): object {
    const since = Date.now() - days * DAY_MS
    try {
      this.#history = this.#daemon.feed.directory.daemon.history ?? this.#history
    } catch {
      // Without a daemon, history is where it was.
    }
    try {
      const past = readHistory(this.#history, since, '', { most: MOST_KINDS, since })
      const views = pastViews(past.containers)
      const unread = [...past.unread.values()].reduce((sum, count) => sum + count, 0)
      const refusals = refusalsOf(views).filter(({ time }) => time >= since)
      return { begun: new Date(past.begun).toISOString(), lost: past.lost, corrupt: past.corrupt, unread, refusals }
    } catch (error) {
      throw new HttpError(503, `Cannot read history in ${this.#history}: ${(error as Error).message}`)
    }
  }

  #status(): object {
    const { directory } = this.#daemon.feed
    const views = containersIn(this.#daemon, false)
    const most = (of: (view: ContainerView) => unknown): object => {
      const [first] = [...views].sort((one, other) => Number(of(other) ?? 0) - Number(of(one) ?? 0))
      return first ? { value: Number(of(first) ?? 0), ...whichOf(first) } : { value: 0 }
    }
    return {
      ...this.#heading(),
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
