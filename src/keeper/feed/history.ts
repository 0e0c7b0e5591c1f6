import { existsSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { type CallRecord, type VerdictName, WORDS } from '../../calls/record.ts'
import { now } from '../../kernel/clock.ts'
import { orElse } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { callKey, spreadKey } from '../../memories/counts-layout.ts'
import type { ContainerCounts } from '../../memories/read-counts.ts'
import { refusalView } from '../../memories/refusal-view.ts'
import { type Line, unendedIn } from '../../processes/history-lines.ts'
import { HISTORY_FILES, HISTORY_LINK, lastHistory } from '../../processes/installation.ts'
import { type EngineNames, engineNamesLookup, engineStates, openState } from '../../runtimes/engine-names.ts'
import { firstFitting } from '../../shared/texts.ts'
import type { HistoryOptions, KeeperEvent } from '../process/events.ts'
import { HistoryFile, lineOf, makePlace } from './history-file.ts'

/** What history has of a container: its entry in the directory, and the counts of its calls. */
export interface PastContainer {
  readonly about: Readonly<Record<string, unknown>>
  readonly counts: Pick<ContainerCounts, 'calls' | 'refusals' | 'dropped'>
}

/** Who may read history, and who hears of faults. */
export interface HistoryOutlets {
  readonly group: number | undefined
  /** Takes a sentence about what is not kept, and why. */
  failed(message: string): void
}

interface HistoryDependencies extends HistoryOutlets {
  /** Returns what is known now of the containers with these numbers, except those that have ended. */
  read(containers: readonly number[]): readonly PastContainer[]
}

/** The events that are kept: who came and went, and who changed what. Containers can cause none of the others often. */
const KEPT = ['registered', 'resumed', 'ended', 'set', 'refused', 'engineStarted', 'engineEnded'] as const
const ORDERS = ['started', 'stopOrdered', 'reloadOrdered', 'reloaded', 'notReloaded', 'restarted', 'stopped'] as const
const TYPES: ReadonlySet<string> = new Set([...KEPT, ...ORDERS] satisfies (KeeperEvent['type'] | string)[])

/** The shortest and the longest time between two lines of a running container. */
const SHORTEST_MS = 10_000
const LONGEST_MS = 3_600_000
/** The longest line of a running container, and of one that has ended, in bytes: the oldest refusals are left out. */
const LINE = { running: 8 * 1024, ended: 32 * 1024 }

/** The members of an entry that are kept. */
const ABOUT = [
  'id',
  'name',
  'image',
  'namespace',
  'pod',
  'labels',
  'runtime',
  'profile',
  'init',
  'started',
  'on',
  'barred',
  'traps',
]

/** How many kinds of refusals of a running container have a line soon: the container chooses the numbers in them. */
const SOON = 16

/** When a running container may have its next line: the wait doubles while more of the same comes each time. */
interface Pace {
  isNew: boolean
  isMoreOfTheSame: boolean
  last: number
  next: number
  wait: number
  /** The kinds of refusals that had a line soon, by hash. */
  readonly kinds: Set<number>
}

const newPace = (): Pace => ({
  ...{ isNew: false, isMoreOfTheSame: false, last: 0, next: 0, wait: SHORTEST_MS, kinds: new Set() },
})

/**
 * Keeps refusals and errors of containers, and what administrators did, in files that outlive containers and the
 * daemon. A container has a line when it begins, soon after a refusal of a new kind, at growing intervals while there
 * are more of the same, and when it or the daemon ends. Each has all that is known then.
 */
export class History {
  readonly #dependencies: HistoryDependencies
  readonly #clock: () => number
  readonly #paces = new Map<number, Pace>()
  #file: HistoryFile | undefined
  /** Why nothing can be kept, in a sentence; undefined if it can, or need not. */
  flaw: string | undefined
  /** Where nothing can be kept, but earlier daemons may have kept something. */
  #unwritable: string | undefined
  /** What was known of containers of an earlier daemon when it could not be kept any more. */
  #outlived: ReadonlyMap<number, Line> | undefined

  /** @param clock in milliseconds */
  constructor(dependencies: HistoryDependencies, clock = now) {
    this.#dependencies = dependencies
    this.#clock = clock
  }

  /** The directory with the files; undefined if nothing is kept. */
  get directory(): string | undefined {
    return this.#file?.options.directory
  }

  /** Where readers find history; undefined if there is none of ours. */
  get readable(): string | undefined {
    return this.directory ?? this.#unwritable
  }

  /** How many lines could not be written lately. */
  get lost(): number {
    return this.#file?.lost ?? 0
  }

  /** @param options undefined to keep nothing @returns why nothing can be kept, a sentence that `failed` gets too */
  open(options: HistoryOptions | undefined): string | undefined {
    if (options && options.directory === this.directory) {
      this.#file!.limit(options)
      return undefined
    }
    return this.#begin(options, this.#file?.outlived ?? this.#outlived ?? outlivedBefore(options))
  }

  /** @param outlived what is known of containers of an earlier daemon */
  #begin(options: HistoryOptions | undefined, outlived: ReadonlyMap<number, Line>): string | undefined {
    this.close()
    this.flaw = undefined
    this.#unwritable = undefined
    this.#outlived = undefined
    if (!options) return undefined
    // What runs is not in another directory.
    const running = [...this.#paces.keys()]
    const { group, failed } = this.#dependencies
    const snapshot = (): readonly object[] => this.#linesOf([...this.#paces.keys()])
    try {
      this.#file = new HistoryFile(options, { group, snapshot, failed }, outlived)
      for (const line of this.#linesOf(running)) this.#file.add(line)
    } catch (error) {
      const why = `Cannot keep history in "${options.directory}": ${(error as Error).message}`
      this.flaw = why
      this.#outlived = outlived
      // An answer of the kernel does not say that it is another daemon's: the disk may be mounted read-only.
      const isOurs = (error as NodeJS.ErrnoException).code !== undefined
      if (isOurs && existsSync(join(options.directory, HISTORY_FILES.now))) this.#unwritable = options.directory
      failed(why)
      return why
    }
    try {
      leaveLink(options)
    } catch (error) {
      failed(
        `Cannot say in "${options.usual}" where history is, so without the daemon give --history: ${(error as Error).message}`,
      )
    }
    return undefined
  }

  /** Keeps an event. @param more what only history has of it */
  add(type: string, { id, ...told }: { readonly id?: string }, more: object = {}): void {
    if (!TYPES.has(type)) return
    const line = { time: new Date(), type, ...(id === undefined ? {} : { container: id }), ...told }
    const whole = { ...line, ...more }
    this.#file?.add(lineOf(whole).length > LINE.ended ? line : whole)
  }

  /**
   * Keeps that a container is there, with its name, so that it is known if it outlives the daemon.
   *
   * @returns whether that is news
   */
  began(container: number): boolean {
    if (this.#paces.has(container)) return false
    this.#paces.set(container, newPace())
    for (const line of this.#linesOf([container])) this.#file?.add(line)
    return true
  }

  /** Keeps other keys of a container, or another name, at once: neither is of the container's doing. */
  changed(container: number): void {
    for (const line of this.#linesOf([container])) this.#file?.add(line)
  }

  /** Notes a refused call. It is called for each record, so it only sets marks. */
  refused(container: number, record: CallRecord): void {
    if (!this.#file) return
    const pace = this.#paces.get(container) ?? newPace()
    this.#paces.set(container, pace)
    pace.isNew = true
    if (isNewKind(pace.kinds, record)) pace.next = Math.min(pace.next, pace.last + SHORTEST_MS)
    else pace.isMoreOfTheSame = true
  }

  /** Keeps what is known of a container that has ended. */
  ended(kept: PastContainer): void {
    this.#file?.add(containerLine(kept, Date.now(), this.#file.roomFor(LINE.ended)))
  }

  /** Takes back the number of a container that has ended. */
  forget(container: number): void {
    this.#paces.delete(container)
  }

  /** Keeps what is new of running containers. To be called once a second. */
  look(): void {
    this.#file?.look()
    if (this.#file?.isMoved) this.#beginAgain(this.#file.options)
    const time = this.#clock()
    // A part of the room is left for containers that end. What does not fit comes with the next look.
    const most = Math.max(1, Math.floor((this.#file?.room ?? 0) / 2 / LINE.running))
    const due = [...this.#paces]
      .filter(([, { isNew, next }]) => isNew && next <= time)
      .sort(([, one], [, other]) => one.next - other.next)
      .slice(0, most)
    for (const [, pace] of due) {
      // After a pause the wait is short again.
      if (time - pace.next > 4 * pace.wait) pace.wait = SHORTEST_MS
      else if (pace.isMoreOfTheSame && pace.last > 0) pace.wait = Math.min(LONGEST_MS, 2 * pace.wait)
      Object.assign(pace, { isNew: false, isMoreOfTheSame: false, last: time, next: time + pace.wait })
    }
    for (const line of this.#linesOf(due.map(([container]) => container))) this.#file?.add(line)
  }

  /** Keeps what comes at the path that was configured, where readers look. */
  #beginAgain(options: HistoryOptions): void {
    const { directory } = options
    this.#dependencies.failed(
      `History is no longer in "${directory}", since somebody has moved or removed that: it begins again there`,
    )
    this.#begin(options, this.#file!.outlived)
  }

  /** Resolves once all of it is written. */
  async settle(): Promise<void> {
    await this.#file?.settle()
  }

  /** Keeps what is known of all that runs, and closes the files. */
  close(): void {
    const newFirst = [...this.#paces].sort(([, one], [, other]) => Number(other.isNew) - Number(one.isNew))
    this.#file?.close(this.#linesOf(newFirst.map(([container]) => container)))
    this.#file = undefined
  }

  #linesOf(containers: readonly number[]): readonly object[] {
    return this.#dependencies.read(containers).map((kept) => containerLine(kept, undefined, LINE.running))
  }
}

/** Returns the containers that outlived the daemon that kept its history elsewhere. */
function outlivedBefore({ usual, directory }: Partial<HistoryOptions> = {}): ReadonlyMap<number, Line> {
  const last = usual === undefined ? directory : lastHistory(usual)
  return last === undefined || last === directory ? new Map() : orElse(new Map(), () => unendedIn(last))
}

/** Leaves a link to history where readers look without the daemon, if it is not there. @throws {Error} of node:fs */
function leaveLink({ usual, directory }: HistoryOptions): void {
  if (usual === undefined || lastHistory(usual) === directory) return
  const link = join(usual, HISTORY_LINK)
  if (directory === usual) {
    rmSync(link)
    return
  }
  makePlace(usual)
  // In one step: a reader finds the old one or the new one.
  rmSync(`${link}.new`, { force: true })
  symlinkSync(directory, `${link}.new`)
  renameSync(`${link}.new`, link)
}

/** Tells whether a refusal is of a kind that is not in the set, and adds it while there is room. */
function isNewKind(kinds: Set<number>, record: CallRecord): boolean {
  if (kinds.size >= SOON) return false
  const kind = spreadKey(callKey(record) ^ Math.imul(record.a, 31) ^ Math.imul(record.b, 17))
  const isNew = !kinds.has(kind)
  kinds.add(kind)
  return isNew
}

/** Returns the calls by verdict: history has refusals, not each kind of call. */
function sums(calls: ContainerCounts['calls']): readonly object[] {
  const all = new Map<VerdictName, number>()
  for (const { verdict, calls: count } of calls) all.set(verdict, (all.get(verdict) ?? 0) + count)
  return [...all].map(([verdict, count]) => ({ verdict: WORDS[verdict], calls: count }))
}

type Keys = Readonly<Record<string, { readonly origin: string; readonly ceiling?: string }>>

/** Returns the keys that say why a call was refused, and where it could be allowed: no default without a ceiling. */
const keysIn = (keys: unknown): Keys =>
  Object.fromEntries(
    Object.entries((keys ?? {}) as Keys).filter(
      ([, { origin, ceiling }]) => origin !== 'default' || ceiling !== undefined,
    ),
  )

/**
 * Returns the line of a container: its number and end come early, so that a reader finds the last line of each without
 * parsing the others.
 *
 * @param ended when, in milliseconds since 1970; undefined if the container runs
 * @param size the longest line, if refusals can be left out
 */
function containerLine({ about, counts }: PastContainer, ended: number | undefined, size: number): object {
  const { since, keys, set, ignored } = about
  const line = {
    ...{ time: new Date(), type: 'container', serial: about.serial },
    ...(ended === undefined ? {} : { ended: new Date(ended) }),
    ...Object.fromEntries(ABOUT.flatMap((name) => (about[name] === undefined ? [] : [[name, about[name]]]))),
    ...(typeof since === 'number' ? { since: new Date(since) } : {}),
    calls: sums(counts.calls),
  }
  // Annotations may make keys long.
  const whole = {
    ...{ ...line, keys: keysIn(keys) },
    ...(set === undefined ? {} : { set }),
    ...(ignored === undefined ? {} : { ignored }),
  }
  const first = lineOf(whole).length > size / 2 ? line : whole
  const newest = [...counts.refusals].sort((one, other) => other.record.time - one.record.time).map(refusalView)
  const all = newest.map((each) => ({ ...each, time: new Date(each.time) }))
  const refusals = firstFitting(all, size - lineOf(first).length, (each) => lineOf(each).length)
  const droppedRefusals = counts.dropped + all.length - refusals.length
  return { ...first, refusals, ...(droppedRefusals > 0 ? { droppedRefusals } : {}) }
}

/** A container whose engine did not pass on its name. */
interface Nameless {
  readonly id: string
  readonly bundle: string
  readonly found: (names: EngineNames | undefined) => void
}

/** Of how many that wait the state is kept open as it was: their engine may remove them before a look. */
const STATES = 32

/**
 * The shortest time between two looks at the state of engines, in milliseconds, and how many times longer than what a
 * look takes of a processor it is: less for a container that has ended, which the engine is about to remove, and more
 * where nobody waits for a name.
 */
const LOOKS = { shortest: 20, share: 20, shareOfEnded: 2, shareOfFollowed: 100 }

/** How long this process has used processors, in milliseconds: others that use them too delay no look. */
function processorTime(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/**
 * Finds names of containers in the state of podman or Docker soon after they were handed over, for as soon as they end
 * the engine may remove them, and again once that state has changed, for an engine can rename them. One look is for all
 * of them, and looks take a part of the time at most: the state may be large.
 */
export class NameSearch {
  readonly #waiting = new Map<number, Nameless & { readonly kept: readonly Fd[]; readonly hasEnded?: boolean }>()
  /** Containers that run, with the state of their engine at the last look. */
  readonly #followed = new Map<number, Nameless & { state: string }>()
  #timer: NodeJS.Timeout | undefined
  /** When the last look ended, and how long it took. */
  #last = { end: Number.NEGATIVE_INFINITY, took: 0 }

  /** Searches the name of a container, and follows it until the container ends, if that is not done yet. */
  add(serial: number, nameless: Nameless): boolean {
    if (this.#waiting.has(serial) || this.#followed.has(serial)) return false
    const kept = this.#waiting.size < STATES ? openState(nameless.id, nameless.bundle) : []
    this.#waiting.set(serial, { ...nameless, kept })
    this.#timer ??= this.#after(Math.max(LOOKS.shortest, LOOKS.share * this.#last.took))
    return true
  }

  /** Looks for other names. To be called once a second. */
  follow(): void {
    if (this.#followed.size > 0 && now() >= this.#last.end + LOOKS.shareOfFollowed * this.#last.took) this.look()
  }

  /**
   * Looks at once for the name of a container that has ended, unless looks would take too much time, and follows it no
   * more.
   */
  ended(serial: number): void {
    const waits = this.#waiting.get(serial)
    if (waits) this.#waiting.set(serial, { ...waits, hasEnded: true })
    const isSearched = waits !== undefined || this.#followed.has(serial)
    if (isSearched && now() >= this.#last.end + LOOKS.shareOfEnded * this.#last.took) this.look()
    this.#followed.delete(serial)
  }

  /** Changes who takes the name of a container that has ended, if it is still searched. */
  replace(serial: number, found: Nameless['found']): boolean {
    const before = this.#waiting.get(serial)
    if (!before) return false
    this.#waiting.set(serial, { ...before, found })
    clearTimeout(this.#timer)
    this.#timer = this.#after(LOOKS.shareOfEnded * this.#last.took)
    return true
  }

  /** Looks this long after the last look. */
  #after(pause: number): NodeJS.Timeout {
    return setTimeout(() => this.look(), Math.max(0, this.#last.end + pause - now())).unref()
  }

  look(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const start = processorTime()
    const [lookup, stateOf] = [engineNamesLookup(), engineStates()]
    const all = [...this.#waiting]
    this.#waiting.clear()
    for (const [serial, { kept, hasEnded = false, ...nameless }] of all) {
      const { id, bundle, found } = nameless
      // The state from before the look: what changes meanwhile is found by the next one.
      if (!hasEnded) this.#followed.set(serial, { ...nameless, state: stateOf(id, bundle) })
      found(lookup(id, bundle, kept))
      for (const file of kept) file[Symbol.dispose]()
    }
    for (const each of this.#followed.values()) {
      const state = stateOf(each.id, each.bundle)
      if (state === each.state) continue
      each.state = state
      each.found(lookup(each.id, each.bundle))
    }
    this.#last = { end: now(), took: processorTime() - start }
  }
}
