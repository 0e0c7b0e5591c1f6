import { isDeepStrictEqual } from 'node:util'
import type { CountPlaces } from '../../memories/count-places.ts'
import {
  type DaemonTotals,
  FewLabels,
  type RefusalCause,
  type RestartCause,
  type registrationResults,
  type reloadResults,
} from '../../memories/daemon-totals.ts'
import type { DirectoryWriter, EventType } from '../../memories/directory.ts'
import type { CallCount } from '../../memories/read-counts.ts'
import { refusalView } from '../../memories/refusal-view.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import { version } from '../../processes/installation.ts'
import type { EngineNames } from '../../runtimes/engine-names.ts'
import { explainBarred } from '../containers/admission.ts'
import { annotatedNames } from '../containers/annotations.ts'
import type { ContainerEntry } from '../containers/registry.ts'
import { FewRefusals } from '../log/call-log.ts'
import { changedKeys, formatChange } from '../log/effective-keys.ts'
import type { ChangedKeys, KeeperEvent, KeeperOptions } from '../process/events.ts'
import { aboutChanged, aboutDaemon, aboutRegistered, aboutResumed } from './about.ts'
import { History, type HistoryOutlets, NameSearch, type PastContainer } from './history.ts'

const SUMS = ['recordsLost', 'linesSuppressed'] as const
const BY_LABEL = ['restarts', 'registrations', 'reloads'] as const

/** Counts what the daemon does, for metrics. The labels are few, and containers cannot choose them. */
export class Totals {
  readonly #sums: Record<(typeof SUMS)[number], number> = { recordsLost: 0, linesSuppressed: 0 }
  readonly #byLabel: Record<(typeof BY_LABEL)[number], Record<string, number>> = {
    ...{ restarts: {}, registrations: {}, reloads: {} },
  }
  readonly #runtimes: FewLabels

  /**
   * @param before the counters of the previous keeper
   */
  constructor(before: Partial<DaemonTotals> = {}) {
    for (const name of SUMS) this.#sums[name] += before[name] ?? 0
    for (const name of BY_LABEL)
      for (const [label, count] of Object.entries(before[name] ?? {})) this.#add(name, label, count)
    this.#runtimes = new FewLabels(Object.keys(this.#byLabel.registrations).map((label) => label.split(' ')[0]!))
  }

  lostRecords(count: number): void {
    this.#sums.recordsLost += count
  }

  suppressedLines(count = 1): void {
    this.#sums.linesSuppressed += count
  }

  engineEnded(cause: RestartCause): void {
    this.#add('restarts', cause)
  }

  /** @param by -1 if a reload that was counted as done has failed after all */
  reload(result: (typeof reloadResults)[number], by = 1): void {
    this.#add('reloads', result, by)
  }

  /** @param runtime undefined if it is not known */
  registration(runtime: unknown, result: (typeof registrationResults)[number]): void {
    this.#add('registrations', `${this.#runtimes.labelOf(runtime)} ${result}`)
  }

  refused(cause: RefusalCause | 'abandoned'): void {
    const result = cause === 'abandoned' ? cause : `refused ${cause}`
    this.#add('registrations', `${this.#runtimes.labelOf(undefined)} ${result}`)
  }

  get all(): Pick<DaemonTotals, (typeof SUMS)[number] | (typeof BY_LABEL)[number]> {
    return { ...this.#sums, ...this.#byLabel }
  }

  #add(name: (typeof BY_LABEL)[number], label: string, by = 1): void {
    const labels = this.#byLabel[name]
    labels[label] = (labels[label] ?? 0) + by
  }
}

/** The most kinds of calls that are kept for an ended container. */
const KINDS_OF_ENDED = 32
/** The most kinds of refusals, each with its call, reason and remedy. */
const REFUSALS_OF_ENDED = 12
/** The longest message, in characters: messages quote runtimes and containers. */
const MESSAGE_LIMIT = 1000

/** The most refusals a minute in the ring of events, so that they do not push out the containers' events. */
const REFUSALS_A_MINUTE = 4
/** The same for programs that failed in one container. */
const PROGRAMS_A_MINUTE = 4

type EventOf<Type extends KeeperEvent['type']> = Extract<KeeperEvent, { readonly type: Type }>

/** What the feed looks at once a second. */
interface Beat {
  readonly engine: number | undefined
  readonly mounters: readonly number[]
  /** For each call that has been served so long that it may hang: its container's number. */
  readonly stuck: readonly number[]
  /** For each descriptor that is kept for a container: the container's number. */
  readonly kept: readonly number[]
}

/** The daemon's facts that only the configuration and this program decide. */
export type DaemonFacts = Pick<DaemonTotals, 'containerLabel' | 'forUser' | 'configPath' | 'limits'>

/**
 * Writes what readers may know about containers and the daemon: the directory, and the owners of the places for counts.
 */
export class Feed {
  readonly #directory: DirectoryWriter
  readonly #counts: CountPlaces
  #standing: DaemonFacts & { readonly version: string }
  /** The daemon's own counters. */
  readonly totals: Totals
  /** The directory's entry for each container, by number. */
  readonly #about = new Map<number, Record<string, unknown>>()
  /** The last registration: its container gets a place next. */
  #registered: EventOf<'registered'> | undefined
  /** The process of the previous keeper, if there was one. */
  readonly #pidBefore: unknown
  /** How many engines have served since this program began. */
  #engines = 0
  /** The directory's entry for the processes of the daemon and its engine. */
  #process: object = aboutDaemon()
  /** Until when calls are left to the kernel, and the next engine is tried; undefined if they wait for an engine. */
  #nextEngine: number | undefined
  readonly #refusals = new FewRefusals(REFUSALS_A_MINUTE)
  /** By the container's id. */
  readonly #programs = new Map<string, FewRefusals>()
  readonly #resumed = new Map<string, EventOf<'resumed'>>()
  readonly #names = new NameSearch()
  /** What outlives the daemon. */
  readonly history: History

  constructor(directory: DirectoryWriter, counts: CountPlaces, standing: DaemonFacts, outlets: HistoryOutlets) {
    this.#directory = directory
    this.#counts = counts
    this.#standing = { ...standing, version: version() }
    const before = directory.daemonBefore
    this.totals = new Totals(before)
    this.#pidBefore = before?.pid
    // The time that was found out first: it comes from clocks of different resolution.
    if (before?.pid === process.pid) this.#process = { ...this.#process, since: before.since }
    this.history = new History({ ...outlets, read: (containers) => this.#kept(containers) })
  }

  /** Notes an event before anything else gets it. */
  note(event: KeeperEvent): void {
    this.#sum(event)
    if (event.type === 'registered') this.#registered = event
    else if (event.type === 'resumed') this.#resumed.set(event.id, event)
    const isLeft = event.type === 'registered' && Number(this.#nextEngine) > Date.now()
    const told = isLeft ? { message: WITHOUT_ENGINE, ...eventEntry(event) } : eventEntry(event)
    if (told && !this.#isLeftOut(event)) this.#add(event.type as EventType, told, auditOf(event))
    if (event.type === 'refused' && event.cause && event.cause !== 'abandoned')
      this.#directory.add('refused', { time: Date.now(), ...told, name: event.name })
  }

  #isLeftOut(event: KeeperEvent): boolean {
    // As when a program to execute does not exist: nobody refused anything.
    if (event.type === 'refused') return event.cause === 'abandoned' || !this.#refusals.take(event.message, Date.now())
    if (event.type !== 'program') return false
    const programs = this.#programs.get(event.id) ?? new FewRefusals(PROGRAMS_A_MINUTE)
    this.#programs.set(event.id, programs)
    return !programs.take(event.program, Date.now())
  }

  #add(type: EventType, told: object, more: object = {}): void {
    this.#directory.add('events', { time: Date.now(), type, ...told })
    this.history.add(type, told, more)
  }

  /** Notes that the service ends. @param why in a sentence */
  stops(why: string): void {
    this.#add('stopped', { message: why })
  }

  /** Publishes that this program has applied another configuration. */
  reloaded(): void {
    this.#resumed.clear()
    this.#add('reloaded', {})
    this.#process = { ...this.#process, reloaded: Date.now(), notReloaded: undefined }
  }

  /** Changes the daemon's facts that the configuration decides. */
  stands(standing: Pick<DaemonFacts, 'containerLabel' | 'limits'>): void {
    this.#standing = { ...this.#standing, ...standing }
  }

  /** Counts a failed reload, with the reason. */
  notReloaded(why: string): void {
    this.totals.reload('failed')
    const message = why.slice(0, MESSAGE_LIMIT)
    this.#add('notReloaded', { message })
    this.#process = { ...this.#process, notReloaded: { time: Date.now(), message } }
  }

  #sum(event: KeeperEvent): void {
    if (event.type === 'recordsLost') this.totals.lostRecords(event.count)
    else if (event.type === 'engineEnded') this.totals.engineEnded(event.cause)
    else if (event.type === 'refused' && event.cause) this.totals.refused(event.cause)
  }

  /** Publishes a container when one of its listeners was registered. */
  admitted(entry: ContainerEntry, { runtime, names }: Pick<KeeperOptions, 'runtime' | 'names'>): void {
    const { id, index } = entry.container
    const event = this.#registered
    this.#registered = undefined
    if (event?.handover.id === id) {
      this.#counts.take(entry.container)
      this.#about.set(index, aboutRegistered(entry, event, runtime, names))
      this.totals.registration(this.#about.get(index)?.runtime, entry.container.barred ? 'left' : 'served')
    } else this.totals.registration(this.#about.get(index)?.runtime, 'joined')
    this.changed(entry)
    this.#search(entry, names?.name)
  }

  /** Publishes the containers of the previous keeper, and removes all others from the directory. */
  resumed(entries: Iterable<ContainerEntry>, places: number): void {
    const all = new Map([...entries].map((entry) => [entry.container.index, entry]))
    for (let index = 0; index < places; index++) {
      const entry = all.get(index)
      if (entry) this.#resume(entry)
      else this.#directory.clear(index)
    }
    this.#resumed.clear()
  }

  /** Erases arguments of calls that the previous keeper recorded, if less is recorded now. */
  forgetArguments(mode: ArgumentMode): void {
    this.#counts.forgetArguments(mode)
    this.#directory.forgetArguments(mode)
  }

  #resume(entry: ContainerEntry): void {
    const { id, index, serial } = entry.container
    const before = this.#directory.before(index)
    const event = this.#resumed.get(id)
    this.#counts.take(entry.container)
    if (event) this.#about.set(index, aboutResumed(entry, event, before?.serial === serial ? before : {}))
    this.changed(entry)
    this.#search(entry)
  }

  /** Publishes the policy that a container now has, and what cannot work with it. */
  set(entry: ContainerEntry, flaws: Parameters<typeof aboutChanged>[1]): void {
    const { index } = entry.container
    this.#about.set(index, aboutChanged(entry, flaws, this.#about.get(index)))
    this.changed(entry)
    this.history.changed(index)
  }

  /** Returns the name of a container, once it is known. */
  nameOf({ container: { index } }: ContainerEntry): string | undefined {
    return this.#about.get(index)?.name as string | undefined
  }

  /** Publishes how many listeners a container has. */
  changed({ container: { index }, listeners }: ContainerEntry): void {
    const about = this.#about.get(index)
    if (!about) return
    about.listeners = listeners
    this.#directory.container(index, about)
  }

  /**
   * Searches the name of a container, unless it was passed on, and publishes it; again when the engine gives it
   * another one. History has the container once that was searched.
   */
  #search({ container, handover }: ContainerEntry, told = annotatedNames(handover.annotations).name): void {
    const { index, id, serial } = container
    const found = (names: EngineNames | undefined): void => {
      const about = this.#about.get(index)
      if (about?.serial !== serial) return
      const isNew = names !== undefined && !isDeepStrictEqual({ ...about, ...names }, about)
      if (isNew) {
        this.#about.set(index, { ...about, ...names })
        this.#directory.container(index, this.#about.get(index))
      }
      if (!this.history.began(index) && isNew) this.history.changed(index)
    }
    if (told !== undefined || !this.#names.add(serial, { id, bundle: handover.bundle, found })) found(undefined)
  }

  /** Keeps in history what is known of a container that has ended, with its name if that is still searched. */
  #keep({ about, counts }: PastContainer): void {
    const found = (names?: EngineNames): void => this.history.ended({ about: { ...about, ...names }, counts })
    if (!this.#names.replace(Number(about.serial), found)) found()
  }

  #kept(containers: readonly number[]): readonly PastContainer[] {
    return containers.flatMap((index) => {
      const about = this.#about.get(index)
      return about ? [{ about, counts: this.#counts.read(index) }] : []
    })
  }

  ended({ container: { index, id, serial } }: ContainerEntry): void {
    this.#names.ended(serial)
    const about = this.#about.get(index)
    const counts = this.#counts.read(index)
    const { calls, refusals, dropped } = counts
    if (about) this.#keep({ about, counts })
    this.history.forget(index)
    this.#programs.delete(id)
    const newest = [...refusals].sort((one, other) => other.record.time - one.record.time)
    this.#about.delete(index)
    // In this order: a reader of its last records always finds the container in one of the two.
    this.#directory.add('ended', {
      ...about,
      listeners: 0,
      ended: Date.now(),
      calls: brief(calls),
      refusals: newest.slice(0, REFUSALS_OF_ENDED).map(refusalView),
      droppedRefusals: dropped + Math.max(0, newest.length - REFUSALS_OF_ENDED),
    })
    this.#directory.container(index, undefined)
    this.#counts.leave(index)
  }

  /** Notes for the next beat that an engine serves. */
  serves(engine: number | undefined): void {
    if (this.#engines === 0 && this.#pidBefore !== undefined)
      this.#add(this.#pidBefore === process.pid ? 'reloaded' : 'restarted', {})
    else if (this.#engines === 0) this.history.add('started', {})
    this.#engines++
    this.#process = { ...this.#process, engine, engineSince: Date.now(), engines: this.#engines }
  }

  /** To be called once a second. */
  beat({ engine, mounters, stuck, kept }: Beat): void {
    this.#directory.beat(engine)
    const refusals = this.#refusals.leftOut(Date.now())
    if (refusals > 0) this.#add('refused', { message: `${refusals} more were refused` })
    for (const [id, programs] of this.#programs) {
      const failed = programs.leftOut(Date.now())
      if (failed > 0) this.#add('program', { id, message: `programs failed ${failed} more times` })
    }
    this.#counts.note('stuck', stuck)
    this.#counts.note('kept', kept)
    this.#directory.daemon({
      ...this.#process,
      nextEngine: this.#nextEngine,
      ...this.#standing,
      stuck: stuck.length,
      mounters,
      ...this.totals.all,
      history: this.history.readable,
      historyFlaw: this.history.flaw?.slice(0, MESSAGE_LIMIT),
      ...(this.history.lost === 0 ? {} : { historyLost: this.history.lost }),
    })
    this.#names.follow()
    this.history.look()
  }

  /**
   * Frees the places in which threads of an ended engine were writing.
   *
   * @param pause how long calls are left to the kernel, in milliseconds
   */
  engineEnded(pause: number): void {
    this.#directory.beat(undefined)
    this.#process = { ...this.#process, engine: undefined, engineSince: undefined }
    if (pause > 0) this.#nextEngine = Date.now() + pause
    this.#counts.free()
  }

  /** Notes for the next beat that calls wait for an engine that is being started. */
  triesEngine(): void {
    this.#nextEngine = undefined
  }

  /** Resolves once history has all that there is, also of containers whose names are still searched. */
  settle(): Promise<void> {
    this.#names.look()
    return this.history.settle()
  }

  /** Publishes that no keeper continues with these memories. */
  end(): void {
    this.#names.look()
    this.history.close()
    this.#directory.end()
  }
}

/** Returns the most frequent kinds of calls, without the distribution of their times. */
const brief = (calls: readonly CallCount[]): readonly Omit<CallCount, 'buckets'>[] =>
  [...calls]
    .sort((one, other) => other.calls - one.calls)
    .slice(0, KINDS_OF_ENDED)
    .map(({ buckets: _, ...rest }) => rest)

/** Returns what only history has of an order: each value before and after. */
const auditOf = (event: KeeperEvent): object => (event.type === 'set' ? { changed: event.changed } : {})

const formatChanges = (changed: ChangedKeys): string =>
  Object.entries(changed)
    .map(([key, change]) => formatChange(key, change))
    .join('; ')

/** Returns one line about what an administrator has changed. */
const formatSetKeys = ({ by, changed }: EventOf<'set'>): string =>
  `${by} has set ${formatChanges(changed) || 'nothing new'}`.slice(0, MESSAGE_LIMIT)

const formatBarred = ({ says }: ReturnType<typeof explainBarred>): string =>
  `all calls of the container are left to the kernel: ${says}`.slice(0, MESSAGE_LIMIT)

const WITHOUT_ENGINE = formatBarred(explainBarred('noEngine'))

/** Returns one line about what another configuration has changed; nothing if it changed nothing. */
function formatResumedKeys({ before, settings, policy, traps }: EventOf<'resumed'>): object {
  const changed = changedKeys(before, settings, policy, traps)
  return changed ? { message: `the container continues with ${formatChanges(changed)}`.slice(0, MESSAGE_LIMIT) } : {}
}

/** The entries for events in the ring of events; readers see all others elsewhere. */
const ENTRIES: { readonly [Type in KeeperEvent['type'] & EventType]: (event: EventOf<Type>) => object } = {
  registered: ({ handover, barred, wrong }) => ({
    id: handover.id,
    ...(barred ? { message: formatBarred(explainBarred(barred, wrong)) } : {}),
  }),
  resumed: (event) => ({ id: event.id, ...formatResumedKeys(event) }),
  ended: ({ id, barred }) => ({
    id,
    ...(barred === 'unknownContainer' ? { message: 'the process that was handed over has ended' } : {}),
  }),
  set: (event) => ({ id: event.id, message: formatSetKeys(event), who: event.who }),
  reloadOrdered: ({ by, who, isForced }) => ({
    message: `${by} has ordered a reload${isForced ? ' by force' : ''}`,
    who,
  }),
  stopOrdered: ({ id, by, signal, who }) => ({ id, message: `${by} ends it by ${signal}`, who }),
  refused: ({ id, message }) => ({ id, message: message.slice(0, MESSAGE_LIMIT) }),
  fault: ({ message }) => ({ message: message.slice(0, MESSAGE_LIMIT) }),
  engineEnded: ({ how, pause }) => ({
    message: `the engine ${how}${pause > 0 ? `; calls are left to the kernel for ${Math.ceil(pause / 1000)} s` : ''}`,
  }),
  engineStarted: ({ pid }) => ({ pid }),
  program: ({ id, program }) => ({ id, message: `${program} failed`.slice(0, MESSAGE_LIMIT) }),
  recordsLost: ({ count }) => ({ count }),
}

const eventEntry = (event: KeeperEvent): object | undefined =>
  (ENTRIES as { readonly [type: string]: ((event: KeeperEvent) => object) | undefined })[event.type]?.(event)
