import { STORE_LOCKS } from '../../caller/programs/bpf-program-store.ts'
import { Alarm, now } from '../../kernel/clock.ts'
import { currentTid, isRunning } from '../../kernel/process.ts'
import { randomBytes } from '../../kernel/system-info.ts'
import { CONTAINERS, LISTENERS } from '../../link/limits.ts'
import { ENTRIES } from '../../link/persistent-layout.ts'
import { RateLimit } from '../../shared/rate-limit.ts'
import { CACHE_LINE, countUpTo, struct, waitWhile, wake } from '../../shared/words.ts'
import { DeviceRulesCache, RULES_WORDS, SEED_BYTES } from '../facts/device-rules-cache.ts'
import { PINNED_WORDS, PinnedFiles } from '../facts/pinned-files.ts'
import { INFO_WORDS, SysinfoCache } from '../facts/sysinfo-cache.ts'
import { SpawnGuard } from '../helpers/spawn-guard.ts'
import { DEDICATED_WORDS } from '../leader/dedicated-receiver.ts'
import { type Hangs, LEADER_MS, LEADERSHIP_WORDS, Leadership } from '../leader/leadership.ts'
import { ACTIVITY_WORDS, ThreadActivity } from '../leader/thread-activity.ts'
import { LxcProxyState } from '../lxc/lxc-proxy.ts'
import { REPLY_CACHE_WORDS, ReplyCache } from '../replay/reply-cache.ts'
import { INHERITED_WORDS } from '../tables/inherited-calls.ts'
import { LISTENER_TABLE_WORDS, ListenerTable } from '../tables/listener-table.ts'
import { WALKER_WORDS, WalkerTable } from '../tables/walker-table.ts'
import { FairShare, IN_TURN_MS, SLOW_MS } from './fair-share.ts'
import { LANE_WORDS, Lanes } from './lane.ts'

/** The most mounts of one container: each holds kernel memory that is charged to us. */
const MOUNTS_LIMIT = 4096
/** A container is distrusted after this many strikes, for so many seconds after the first. */
const STRIKES = 16
const FORGIVEN_S = 10

/** How many processes may begin to try the device rules of a container at once; one more each 50 ms. */
const RULES_PACE = { unit: 50, burst: 64, longest: 64 + 256 }

/**
 * How long a call waits at the limit of calls of all containers while none of them ends. Even on a busy machine one
 * does. The keeper ends an engine that answers nothing for twice as long. Containers that let one of their hanging
 * calls end now and then must not stall the others each time: so once none has ended, waits are short for a minute.
 */
const PATIENCE_MS = 5000
const IMPATIENT_MS = 500
const IMPATIENT_S = 60

/**
 * answered, calls: see the getters of `SharedState`. spawning: as in `SpawnGuard`. waiting: how many threads wait in
 * `enterOrWait`. hung: 1 since one of them waited in vain; 0 again when a call ends. impatient: until this
 * second waits are short.
 */
const [COUNT] = struct({ answered: 4, spawning: 4, calls: 1, waiting: 1, hung: 1, impatient: 1, rest: 4 })

/** The parts of the memory, in 32-bit words. */
const SIZES = {
  leadership: LEADERSHIP_WORDS,
  activity: ACTIVITY_WORDS,
  counts: CACHE_LINE,
  dedicated: DEDICATED_WORDS,
  inherited: INHERITED_WORDS,
  lanes: LANE_WORDS,
  listeners: LISTENER_TABLE_WORDS,
  proxies: LISTENERS,
  containerCalls: CONTAINERS,
  containerStrikes: CONTAINERS,
  containerForgiven: CONTAINERS,
  walkers: WALKER_WORDS * CONTAINERS,
  containerMounts: CONTAINERS,
  pinned: PINNED_WORDS * CONTAINERS,
  containerMuted: CONTAINERS,
  containerWaited: CONTAINERS,
  inTurn: CONTAINERS,
  slow: CONTAINERS,
  deviceRules: RULES_WORDS * CONTAINERS,
  rulesPace: CONTAINERS,
  rulesSeed: SEED_BYTES / Int32Array.BYTES_PER_ELEMENT,
  sysinfo: INFO_WORDS * CONTAINERS,
  programLocks: STORE_LOCKS * CONTAINERS,
  contextLocks: ENTRIES,
  replyCache: REPLY_CACHE_WORDS * CONTAINERS,
} as const
const [PART, WORDS] = struct(SIZES)

/** The memory of `SharedState`, by its parts. */
class SharedWords {
  readonly buffer: SharedArrayBuffer

  /** @param buffer the memory that the main thread made; without it, new memory is made */
  constructor(buffer = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT)) {
    this.buffer = buffer
  }

  protected part(name: keyof typeof SIZES): Int32Array {
    return new Int32Array(this.buffer, PART[name] * Int32Array.BYTES_PER_ELEMENT, SIZES[name])
  }
}

/**
 * What the threads of one engine share: who leads, and a few words for each listener and each container. Everything
 * else is a thread's own. The memory ends with the engine, and with it all locks that lie in it.
 *
 * Invariant: the main thread makes the memory before it starts a thread, and alone calls `clearMuted`, `hasWaited` and
 * `resetContainer`, except that a thread may clear a listener that it has removed from the set. Counters are changed
 * atomically, by any thread; strikes are counted by the deputy alone.
 */
export class SharedState extends SharedWords {
  readonly #leadership = this.part('leadership')
  readonly #activity = this.part('activity')
  readonly #counts = this.part('counts')
  /** For `DedicatedReceiver`. */
  readonly dedicated = this.part('dedicated')
  /** For `InheritedCalls`. */
  readonly inherited = this.part('inherited')
  readonly walkers = new WalkerTable(this.part('walkers'))
  readonly listeners = new ListenerTable(this.part('listeners'))
  /** Which listeners are connections of LXC monitors, and the state of those. */
  readonly proxies = new LxcProxyState(this.part('proxies'), seconds)
  /** By container: its calls in flight. */
  readonly containerCalls = this.part('containerCalls')
  /** By container: its strikes, and the second at which they are forgotten. */
  readonly #containerStrikes = this.part('containerStrikes')
  readonly #containerForgiven = this.part('containerForgiven')
  /** What the device rules of the containers allow. */
  readonly deviceRules = new DeviceRulesCache(this.part('deviceRules'), seconds)
  /** Limits how often a process probes the device rules. */
  readonly rulesPace = new RateLimit(this.part('rulesPace'), RULES_PACE)
  /** Known to no other process: see `CallerDeviceRules`. */
  readonly rulesSeed = this.#seed(this.part('rulesSeed'))
  /** The figures that sysinfo(2) reports to containers. */
  readonly sysinfo = new SysinfoCache(this.part('sysinfo'))
  /** What is kept in memory of ours for containers. */
  readonly pinned = new PinnedFiles(this.part('pinned'))
  readonly spawnGuard = new SpawnGuard(this.#counts.subarray(COUNT.spawning))
  /** For `PersistentState`. */
  readonly persistentLocks = { programs: this.part('programLocks'), contexts: this.part('contextLocks') }
  /** The acts of calls whose answers may get lost. */
  readonly replyCache = new ReplyCache(this.part('replyCache'))
  readonly #containerMounts = this.part('containerMounts')
  readonly #containerMuted = this.part('containerMuted')
  readonly #containerWaited = this.part('containerWaited')
  /** The lane of each thread, and the priority of the fast lane. */
  readonly lanes = new Lanes(this.part('lanes'))
  /** The containers whose calls take turns, because they use too much processor time. */
  readonly inTurn = new FairShare(this.part('inTurn'), IN_TURN_MS)
  /** The containers whose calls use so much that they are served in the slow lane too. */
  readonly slow = new FairShare(this.part('slow'), SLOW_MS)

  /** Returns the seed. The main thread chooses it before there is another thread. */
  #seed(words: Int32Array): Uint8Array {
    const bytes = new Uint8Array(words.buffer, words.byteOffset, SEED_BYTES)
    if (bytes.every((byte) => byte === 0)) bytes.set(randomBytes(SEED_BYTES))
    return bytes
  }

  /**
   * Returns the calling thread's part in the leadership.
   *
   * @param alarm a timerfd
   * @param hangs for a thread that serves calls, the only kind that is a deputy
   */
  leadershipOf(
    { processors, alarm }: { readonly processors: number; readonly alarm: number },
    hangs: Hangs = { onHang: () => {}, mayHang: () => false },
  ): Leadership {
    const workers = new ThreadActivity(this.#activity, currentTid(), isRunning)
    const strike = (container: number): void => this.strike(container)
    return new Leadership(this.#leadership, workers, {
      processors,
      alarm: new Alarm(alarm, LEADER_MS),
      strike,
      ...hangs,
    })
  }

  /** How many listeners of a container are muted because it is at its cap. */
  muted(container: number): number {
    return Atomics.load(this.#containerMuted, container)
  }

  /** Has a listener of this container waited since this was asked last? */
  hasWaited(container: number): boolean {
    return Atomics.exchange(this.#containerWaited, container, 0) === 1
  }

  /** @returns whether the listener waited */
  clearMuted(listener: number): boolean {
    const waited = Atomics.exchange(this.listeners.muted, listener, 0) === 1
    if (waited) this.countMuted(listener, -1)
    return waited
  }

  /** How many calls of all containers are being served. */
  get calls(): number {
    return Atomics.load(this.#counts, COUNT.calls)
  }

  /** Answered calls, except those of a dedicated receiver, which need no leader. */
  get answered(): number {
    return Atomics.load(this.#counts, COUNT.answered)
  }

  countAnswer(): void {
    Atomics.add(this.#counts, COUNT.answered, 1)
  }

  /** A call of a container is in flight (1) or over (-1). */
  countCall(listener: number, container: number, change: 1 | -1): void {
    Atomics.add(this.listeners.calls, listener, change)
    Atomics.add(this.containerCalls, container, change)
  }

  /**
   * Counts a call that a thread serves from now on. At the limit this blocks until another one ends.
   *
   * @returns false if none ends: those that are served hang. Then the call is not counted
   */
  enterOrWait(limit: number): boolean {
    if (this.#enter(limit)) return true
    const counts = this.#counts
    Atomics.add(counts, COUNT.waiting, 1)
    try {
      while (!this.#enter(limit)) {
        if (Atomics.load(counts, COUNT.hung) === 1) return false
        const { calls } = this
        const patience = seconds() < Atomics.load(counts, COUNT.impatient) ? IMPATIENT_MS : PATIENCE_MS
        if (calls < limit || waitWhile(counts, COUNT.calls, calls, patience)) continue
        Atomics.store(counts, COUNT.hung, 1)
        Atomics.store(counts, COUNT.impatient, seconds() + IMPATIENT_S)
      }
      return true
    } finally {
      Atomics.sub(counts, COUNT.waiting, 1)
    }
  }

  #enter(limit: number): boolean {
    for (;;) {
      const { calls } = this
      if (calls >= limit) return false
      if (Atomics.compareExchange(this.#counts, COUNT.calls, calls, calls + 1) === calls) return true
    }
  }

  /** The thread has served the call. */
  leave(): void {
    Atomics.sub(this.#counts, COUNT.calls, 1)
    if (Atomics.load(this.#counts, COUNT.hung) === 1) Atomics.store(this.#counts, COUNT.hung, 0)
    if (Atomics.load(this.#counts, COUNT.waiting) > 0) wake(this.#counts, COUNT.calls)
  }

  /**
   * A call in flight no longer counts towards its container's cap, or counts again (-1): it may wait for other calls,
   * which must be served.
   */
  standAside(container: number, change: 1 | -1): void {
    Atomics.sub(this.containerCalls, container, change)
  }

  countMuted(listener: number, change: 1 | -1): void {
    if (change > 0) Atomics.store(this.#containerWaited, this.listeners.container[listener]!, 1)
    Atomics.add(this.#containerMuted, this.listeners.container[listener]!, change)
  }

  /** A call of this container has kept a thread waiting, as the deputy saw. */
  strike(container: number): void {
    const time = seconds()
    if (this.#containerForgiven[container]! <= time) {
      this.#containerForgiven[container] = time + FORGIVEN_S
      this.#containerStrikes[container] = 0
    }
    Atomics.add(this.#containerStrikes, container, 1)
  }

  /** A call of this container has taken `ms` milliseconds of processors. */
  charge(container: number, ms: number): void {
    this.inTurn.charge(container, ms)
    this.slow.charge(container, ms)
  }

  /** Must the calls of this container be served by a thread that does not lead? */
  distrusts(container: number): boolean {
    return this.inTurn.isDear(container) || this.#hasStruck(container)
  }

  #hasStruck(container: number): boolean {
    return this.#containerStrikes[container]! >= STRIKES && this.#containerForgiven[container]! > seconds()
  }

  /** Another container has this number now. */
  resetContainer(container: number): void {
    this.#containerForgiven[container] = 0
    this.#containerMounts[container] = 0
    this.pinned.forget(container)
    this.inTurn.forget(container)
    this.slow.forget(container)
    this.deviceRules.forget(container)
    this.rulesPace.forget(container)
    this.sysinfo.forget(container)
    this.replyCache.forget(container)
    this.walkers.set(container, 'never')
  }

  /** Counts a mount that we make for this container. @returns false if it has had too many */
  countMount(container: number): boolean {
    return countUpTo(MOUNTS_LIMIT, this.#containerMounts, container, 1)
  }
}

const seconds = (): number => Math.trunc(now() / 1000)
