import type { Tid } from '../../abi/brand.ts'
import type { Container, ContainerNumbers } from '../../caller/identity/container.ts'
import { dup, type Fd } from '../../kernel/fd.ts'
import { pidfdIsAlive } from '../../kernel/pidfd.ts'
import { randomNumber } from '../../kernel/system-info.ts'
import { CONTAINERS, LISTENERS, leavesRoom, OWN_LISTENERS, SHARED_LISTENERS } from '../../link/limits.ts'
import { delegates, delegatingNothing, maxPriorityOf } from '../../policy/policy.ts'
import type { Settings } from '../../policy/settings.ts'
import { trappedCalls, waitsKillably } from '../../runtimes/bundle.ts'
import type { Handover } from '../../runtimes/handover.ts'
import type { Init } from '../../runtimes/inspect.ts'
import { recordedInit } from '../../runtimes/recorded.ts'
import type { LxcSet } from '../persist/persisted-state.ts'
import type { SetKey } from '../process/events.ts'

/** A container that has at least one listener. */
export interface ContainerEntry {
  container: Container
  /** The keys in effect, so that the next program can tell what has changed. */
  settings: Settings
  /** Of the configuration; undefined if it has none, or its policy cannot be used. */
  profile: string | undefined
  /** Why its policy cannot be used, so that all its calls are left to the kernel. */
  wrong: string | undefined
  /** What an administrator has set while the container runs; it stays until the container ends. */
  set: readonly SetKey[]
  readonly handover: Handover
  readonly init: Init | undefined
  listeners: number
}

/** How many ended containers are remembered. */
const ENDED = 256

/** The part of a container that depends on its policy. */
export type PolicyDecision = Pick<Container, 'policy' | 'ofUser' | 'barred'> &
  Pick<ContainerEntry, 'settings'> &
  Partial<Pick<ContainerEntry, 'profile' | 'wrong'>>

/** A listener, or the connection of a monitor of LXC, with its container. */
export interface HeldListener {
  readonly entry: ContainerEntry
  readonly fd: Fd
  readonly type: 'listener' | 'monitor'
}

/** What a container's tasks keep of an earlier policy: a real-time priority, and BPF tokens. */
export type Lasting = Pick<Container, 'rtHighest' | 'mayHaveTokens'>

function lastingOf(
  { policy, barred }: Pick<Container, 'policy' | 'barred'>,
  { rtHighest = 0, mayHaveTokens = false }: Lasting = {},
): Lasting {
  const highest = Math.max(rtHighest, barred ? 0 : (maxPriorityOf(policy) ?? 0))
  const tokens = mayHaveTokens || (!barred && policy.mode !== 'observe' && delegates(policy))
  return { ...(highest > 0 ? { rtHighest: highest } : {}), ...(tokens ? { mayHaveTokens: true } : {}) }
}

/**
 * What is kept of a container of LXC, for each init once, so that no container can fill the memory: the orders of
 * administrators, and that tokens must be judged.
 */
function keptWithoutMonitor({ container, set }: ContainerEntry): Omit<LxcSet, 'init'> | undefined {
  if (container.mayHaveTokens) return { set, mayHaveTokens: true }
  return set.length > 0 ? { set } : undefined
}

/**
 * Delegates nothing to a container whose filter does not trap bpf(2): nothing would keep the holder of a token from
 * reading the kernel. Then a warning says that the filter does not trap it.
 */
function withoutLooseTokens<D extends Pick<Container, 'policy'>>(decided: D, handover: Handover): D {
  const isLoose = delegates(decided.policy) && trappedCalls(handover)?.has('bpf') === false
  return isLoose ? { ...decided, policy: delegatingNothing(decided.policy) } : decided
}

/** The free numbers below `count`. The lowest comes last, where `pop` takes it. */
const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => count - 1 - index)

/** How many of a container's listeners come from the shared part. */
const sharedBy = (listeners: number): number => Math.max(0, listeners - OWN_LISTENERS)

/** Takes the number `at` if it is given and free, otherwise the lowest free number. */
const take = (free: number[], at: number | undefined): number | undefined =>
  at === undefined ? free.pop() : free.splice(free.indexOf(at) >>> 0, 1)[0]

/** Holds the containers and their listeners by number, and owns their descriptors. */
export class Registry {
  /** Containers of one id, which several runtimes may have, or one after the other; the newest last. */
  readonly #byId = new Map<string, readonly ContainerEntry[]>()
  readonly #byIndex = new Map<number, ContainerEntry>()
  readonly #listeners = new Map<number, HeldListener>()
  /** What is kept of containers of LXC that live on without a connection of their monitor, by their init's number. */
  readonly #parted = new Map<number, LxcSet>()
  /** The most recently ended containers, by serial, oldest first. */
  readonly #ended = new Map<number, Container>()
  readonly #free = numbers(CONTAINERS)
  readonly #freeListeners = numbers(LISTENERS)
  /** How many listeners of the shared part are taken. */
  #shared = 0

  /**
   * Finds the container of a hand-over. A container with the same id and another init is another container, and so is
   * one that a runtime keeps elsewhere: an exec'd process must not get what that one has.
   */
  known({ id, place, creating, pid, isLate }: Handover): ContainerEntry | undefined {
    const entries = this.#byId.get(id) ?? []
    if (isLate)
      return entries.findLast(
        // An init that has not been reaped has its number alone.
        ({ handover, init }) => handover.pid === pid && (pid === 0 || (init && pidfdIsAlive(init.handles.init))),
      )
    if (creating) return undefined
    // A runtime that starts a container detached may have ended before it was looked at, and left no place.
    const isPlaceless = entries.some(({ handover }) => handover.place === undefined)
    const init = place !== undefined && isPlaceless ? recordedInit(place, id) : undefined
    const there = entries.findLast(({ handover }) =>
      handover.place === undefined ? place === undefined || handover.pid === init : handover.place === place,
    )
    const [only] = entries.length === 1 && init === undefined ? entries : []
    return there ?? (place === undefined || only?.handover.place === undefined ? only : undefined)
  }

  /** Returns what is kept of a container of LXC from before its monitor lost its connection. */
  partedFrom({ isLate, pid }: Handover): Omit<LxcSet, 'init'> {
    for (const [each, { init }] of this.#parted) if (!pidfdIsAlive(init)) this.#forgetSet(each)
    return (isLate && this.#parted.get(pid)) || { set: [] }
  }

  /** What is kept of containers of LXC, with a connection of their monitor and without, by their init's number. */
  get lxcSets(): ReadonlyMap<number, LxcSet> {
    const all = new Map(this.#parted)
    for (const entry of this.entries) {
      const { handover, init } = entry
      if (!handover.isLate || !init) continue
      const kept = keptWithoutMonitor(entry)
      if (kept) all.set(handover.pid, { init: init.handles.init, ...kept })
      else all.delete(handover.pid)
    }
    return all
  }

  /** Keeps what was set for such a container until its monitor connects. @param set owned here from now on */
  part(pid: number, set: LxcSet): void {
    this.#forgetSet(pid)
    this.#parted.set(pid, set)
  }

  #forgetSet(pid: number): void {
    this.#parted.get(pid)?.init[Symbol.dispose]()
    this.#parted.delete(pid)
  }

  at(index: number): ContainerEntry | undefined {
    return this.#byIndex.get(index)
  }

  /** Finds a served container, or a recently ended one: a record may come after the end of its container. */
  named({ index, serial }: ContainerNumbers): { readonly container: Container; readonly isOver: boolean } | undefined {
    const container = this.#byIndex.get(index)?.container
    if (container?.serial === serial) return { container, isOver: false }
    const ended = this.#ended.get(serial)
    return ended && { container: ended, isOver: true }
  }

  get size(): number {
    return this.#byIndex.size
  }

  /**
   * @param before its numbers in the previous keeper, and what its tasks may have kept since then
   * @throws {Error} if there are too many containers
   */
  add(
    handover: Handover,
    { settings, profile, wrong, ...decided }: PolicyDecision,
    init: Init | undefined,
    before?: Partial<ContainerNumbers> & Lasting,
  ): ContainerEntry {
    const index = take(this.#free, before?.index)
    if (index === undefined) throw new Error(`Cannot serve container ${handover.id}: ${CONTAINERS} are served already`)
    const { usernsInode: userns = 0n, uidMap = [], gidMap = [], startedMs = 0, nodev, lxcfs, time, exec } = init ?? {}
    const said = withoutLooseTokens(decided, handover)
    const container: Container = {
      index,
      // Random, since the next keeper does not know up to which number we have counted.
      serial: before?.serial ?? randomNumber(),
      id: handover.id,
      userns,
      uidMap,
      gidMap,
      initTid: handover.pid as Tid,
      startedMs,
      waitKillable: waitsKillably(handover.bundle),
      ...said,
      ...lastingOf(said, before),
      ...(exec ? { exec } : {}),
      ...(nodev ? { nodev } : {}),
      ...(lxcfs ? { lxcfs } : {}),
      ...(time ? { time } : {}),
    }
    const entry: ContainerEntry = { container, settings, profile, wrong, set: [], handover, init, listeners: 0 }
    this.#byId.set(handover.id, [...(this.#byId.get(handover.id) ?? []), entry])
    this.#byIndex.set(index, entry)
    return entry
  }

  /**
   * Adds a listener to a container, and takes ownership of `fd`.
   *
   * @param at the number of the listener, if the previous keeper gave it one
   * @returns the number under which the engine knows the listener
   * @throws {Error} if there are too many listeners
   */
  hold(entry: ContainerEntry, fd: Fd, type: HeldListener['type'], at?: number): number {
    if (at === undefined && !this.#hasRoom(entry))
      throw new Error(
        `Cannot serve container ${entry.container.id}: it has ${entry.listeners} listeners, and the rest of all ${LISTENERS} is for other containers`,
      )
    const number = take(this.#freeListeners, at)
    if (number === undefined)
      throw new Error(`Cannot serve container ${entry.container.id}: ${LISTENERS} listeners are served already`)
    this.#listeners.set(number, { entry, fd, type })
    this.#shared += sharedBy(++entry.listeners) - sharedBy(entry.listeners - 1)
    return number
  }

  /** Returns whether a container may have another listener: enough must be left for all others. */
  #hasRoom({ listeners }: ContainerEntry): boolean {
    return listeners < OWN_LISTENERS || leavesRoom(sharedBy(listeners), SHARED_LISTENERS - this.#shared)
  }

  get entries(): Iterable<ContainerEntry> {
    return this.#byIndex.values()
  }

  held(listener: number): HeldListener | undefined {
    return this.#listeners.get(listener)
  }

  get listeners(): Iterable<[number, HeldListener]> {
    return this.#listeners
  }

  /** Changes a container's policy, and what an administrator has set. */
  change(
    entry: ContainerEntry,
    { settings, profile, wrong, ...decided }: PolicyDecision,
    set: readonly SetKey[],
  ): void {
    const said = withoutLooseTokens(decided, entry.handover)
    const { ofUser: _, barred: __, ...rest } = entry.container
    entry.container = { ...rest, ...said, ...lastingOf(said, rest) }
    entry.settings = settings
    entry.profile = profile
    entry.wrong = wrong
    entry.set = set
  }

  /** Closes a listener. @returns its container, now forgotten, if that was the last listener */
  release(listener: number): ContainerEntry | undefined {
    const held = this.#listeners.get(listener)
    if (!held) return undefined
    this.#listeners.delete(listener)
    this.#freeListeners.push(listener)
    held.fd[Symbol.dispose]()
    this.#shared -= sharedBy(held.entry.listeners) - sharedBy(held.entry.listeners - 1)
    return --held.entry.listeners === 0 ? this.#forget(held.entry) : undefined
  }

  /** Forgets containers without a listener. @returns the forgotten containers */
  tidy(): readonly ContainerEntry[] {
    return [...this.#byIndex.values()].filter(({ listeners }) => listeners === 0).map((entry) => this.#forget(entry))
  }

  close(): void {
    for (const listener of [...this.#listeners.keys()]) this.release(listener)
  }

  #forget(entry: ContainerEntry): ContainerEntry {
    const { container, handover, init } = entry
    const { index, id, serial } = container
    this.#ended.set(serial, container)
    if (handover.isLate && init) {
      this.#forgetSet(handover.pid)
      const kept = keptWithoutMonitor(entry)
      if (kept) this.part(handover.pid, { init: dup(init.handles.init), ...kept })
    }
    const [oldest] = this.#ended.keys()
    if (this.#ended.size > ENDED) this.#ended.delete(oldest!)
    const others = (this.#byId.get(id) ?? []).filter((other) => other !== entry)
    if (others.length > 0) this.#byId.set(id, others)
    else this.#byId.delete(id)
    this.#byIndex.delete(index)
    init?.[Symbol.dispose]()
    this.#free.push(index)
    return entry
  }
}
