import { randomBytes } from 'node:crypto'
import { STORE_LOCKS } from '../../caller/programs/bpf-program-store.ts'
import { now } from '../../kernel/clock.ts'
import { currentTid, isRunning } from '../../kernel/process.ts'
import { Alarm } from '../../kernel/timer.ts'
import { DeviceRulesCache, RULES_WORDS } from '../facts/device-rules-cache.ts'
import { ProbePace } from '../facts/probe-pace.ts'
import { INFO_WORDS, SysinfoCache } from '../facts/sysinfo-cache.ts'
import { SpawnGuard } from '../helpers/spawn-guard.ts'
import { INHERITED_WORDS } from '../journal/inherited-calls.ts'
import { ENTRIES } from '../kept/fs-context-store.ts'
import { DEDICATED_WORDS } from '../leader/dedicated-receiver.ts'
import { LEADER_MS, LEADERSHIP_WORDS, Leadership } from '../leader/leadership.ts'
import { ACTIVITY_WORDS, ThreadActivity } from '../leader/thread-activity.ts'
import { LxcProxyState } from '../lxc/lxc-proxy-state.ts'
import { REPLY_CACHE_WORDS, ReplyCache } from '../replay/reply-cache.ts'
import { CONTAINERS, LISTENERS } from '../tables/limits.ts'
import { LISTENER_TABLE_WORDS, ListenerTable } from '../tables/listener-table.ts'
import { WalkerTable } from '../tables/walker-table.ts'
import { SEED_BYTES } from './caller-device-rules.ts'
import { FairShare } from './fair-share.ts'
import { LANE_WORDS, Lanes } from './lane.ts'

/** Each holds kernel memory that is charged to us. */
const MOUNTS_LIMIT = 4096
const SEED_WORDS = SEED_BYTES / 4
const PER_CONTAINER = RULES_WORDS + INFO_WORDS + STORE_LOCKS + REPLY_CACHE_WORDS
const CALLS = 8
const ANSWERED = 0
const SPAWNING = 4
const STRIKES = 16
const FORGIVEN_S = 10

/** Of all of it. */
const BYTES =
  4 *
  (LEADERSHIP_WORDS +
    ACTIVITY_WORDS +
    16 +
    SEED_WORDS +
    DEDICATED_WORDS +
    INHERITED_WORDS +
    ENTRIES +
    LANE_WORDS +
    LISTENER_TABLE_WORDS +
    LISTENERS +
    (9 + PER_CONTAINER) * CONTAINERS)

/**
 * What the threads of the pool share: who leads, and a few words for each listener and each container. Everything else is a
 * thread's own.
 */
export class SharedState {
  readonly buffer: SharedArrayBuffer
  readonly #leadership: Int32Array
  readonly #activity: Int32Array
  readonly #counts: Int32Array
  /** For `DedicatedReceiver`. */
  readonly dedicated: Int32Array
  /** For `InheritedCalls`. */
  readonly inherited: Int32Array
  readonly walkers: WalkerTable
  readonly listeners: ListenerTable
  /** Which of them are connections of LXC's monitors, and what those do. */
  readonly proxies: LxcProxyState
  /** By container: calls in flight; how often it kept a thread waiting, and the second at which that is forgotten. */
  readonly containerCalls: Int32Array
  readonly #containerStrikes: Int32Array
  readonly #containerForgiven: Int32Array
  /** What the device rules of the containers allow. */
  readonly deviceRules: DeviceRulesCache
  /** How often that is asked for. */
  readonly rulesPace: ProbePace
  /** Nobody else knows it: see `CallerDeviceRules`. */
  readonly rulesSeed: Uint8Array
  /** What is reported of the containers. */
  readonly sysinfo: SysinfoCache
  readonly spawnGuard: SpawnGuard
  /** For `PersistentState`. */
  readonly persistentLocks: { readonly programs: Int32Array; readonly contexts: Int32Array }
  /** What was done for calls whose answers may get lost. */
  readonly replyCache: ReplyCache
  readonly #containerMounts: Int32Array
  readonly #containerMuted: Int32Array
  readonly #containerWaited: Int32Array
  /** Which of the threads do what may take long, and the priority of the others. */
  readonly lanes: Lanes
  /** Which containers take more of the processors than they should. */
  readonly share: FairShare

  /** @param buffer of the thread that made it first; without one it is made */
  constructor(buffer = new SharedArrayBuffer(BYTES)) {
    this.buffer = buffer
    let at = 0
    const array = (length: number): Int32Array => {
      const words = new Int32Array(buffer, at, length)
      at += 4 * length
      return words
    }
    this.#leadership = array(LEADERSHIP_WORDS)
    this.#activity = array(ACTIVITY_WORDS)
    this.#counts = array(16)
    this.spawnGuard = new SpawnGuard(this.#counts.subarray(SPAWNING, SPAWNING + 1))
    this.dedicated = array(DEDICATED_WORDS)
    this.inherited = array(INHERITED_WORDS)
    this.lanes = new Lanes(array(LANE_WORDS))
    this.listeners = new ListenerTable(array(LISTENER_TABLE_WORDS))
    this.proxies = new LxcProxyState(array(LISTENERS), seconds)
    this.containerCalls = array(CONTAINERS)
    this.#containerStrikes = array(CONTAINERS)
    this.#containerForgiven = array(CONTAINERS)
    this.walkers = new WalkerTable(array(CONTAINERS))
    this.#containerMounts = array(CONTAINERS)
    this.#containerMuted = array(CONTAINERS)
    this.#containerWaited = array(CONTAINERS)
    this.share = new FairShare(array(CONTAINERS))
    this.deviceRules = new DeviceRulesCache(array(RULES_WORDS * CONTAINERS), seconds)
    this.rulesPace = new ProbePace(array(CONTAINERS), now)
    this.rulesSeed = this.#seed(array(SEED_WORDS))
    this.sysinfo = new SysinfoCache(array(INFO_WORDS * CONTAINERS))
    this.persistentLocks = { programs: array(STORE_LOCKS * CONTAINERS), contexts: array(ENTRIES) }
    this.replyCache = new ReplyCache(array(REPLY_CACHE_WORDS * CONTAINERS))
    if (at !== BYTES) throw new RangeError(`Cannot lay out the shared state: it takes ${at} bytes, not ${BYTES}`)
  }

  /** Chosen by the first who has the memory, before there is a second. */
  #seed(words: Int32Array): Uint8Array {
    const bytes = new Uint8Array(words.buffer, words.byteOffset, SEED_BYTES)
    if (bytes.every((byte) => byte === 0)) bytes.set(randomBytes(SEED_BYTES))
    return bytes
  }

  /** The lead, as the calling thread has it or not. @param alarm a timerfd */
  leadershipOf({ processors, alarm }: { readonly processors: number; readonly alarm: number }): Leadership {
    const workers = new ThreadActivity(this.#activity, currentTid(), isRunning)
    const strike = (container: number): void => this.strike(container)
    return new Leadership(this.#leadership, workers, { processors, alarm: new Alarm(alarm, LEADER_MS), strike })
  }

  /** Listeners that wait for the cap of their container. */
  muted(container: number): number {
    return Atomics.load(this.#containerMuted, container)
  }

  /** Has a listener of this container waited since it was asked last? */
  hasWaited(container: number): boolean {
    return Atomics.exchange(this.#containerWaited, container, 0) === 1
  }

  /** @returns whether the listener waited */
  clearMuted(listener: number): boolean {
    const waited = Atomics.exchange(this.listeners.muted, listener, 0) === 1
    if (waited) this.countMuted(listener, -1)
    return waited
  }

  /** Calls in flight that are served, of all containers. */
  get calls(): number {
    return Atomics.load(this.#counts, CALLS)
  }

  /** Calls that were answered, but for those of a listener that is attended: those need no leader. */
  get answered(): number {
    return Atomics.load(this.#counts, ANSWERED)
  }

  countAnswer(): void {
    Atomics.add(this.#counts, ANSWERED, 1)
  }

  /** A call is begun (1) or over (-1). */
  countCall(listener: number, container: number, change: 1 | -1): void {
    Atomics.add(this.listeners.calls, listener, change)
    Atomics.add(this.containerCalls, container, change)
    Atomics.add(this.#counts, CALLS, change)
  }

  /** A call in flight is not counted for the cap of its container, or is again (-1): others may be served that it waits for. */
  standAside(container: number, change: 1 | -1): void {
    Atomics.sub(this.containerCalls, container, change)
  }

  countMuted(listener: number, change: 1 | -1): void {
    if (change > 0) Atomics.store(this.#containerWaited, this.listeners.container[listener]!, 1)
    Atomics.add(this.#containerMuted, this.listeners.container[listener]!, change)
  }

  /** A call of this container has kept a thread waiting: the deputy saw it. */
  strike(container: number): void {
    const time = seconds()
    if (this.#containerForgiven[container]! <= time) {
      this.#containerForgiven[container] = time + FORGIVEN_S
      this.#containerStrikes[container] = 0
    }
    Atomics.add(this.#containerStrikes, container, 1)
  }

  /** Must the calls of this container be served by a thread that does not lead? */
  distrusts(container: number): boolean {
    return this.#containerStrikes[container]! >= STRIKES && this.#containerForgiven[container]! > seconds()
  }

  /** A new container has this number. */
  resetContainer(container: number): void {
    this.#containerForgiven[container] = 0
    this.#containerMounts[container] = 0
    this.share.forget(container)
    this.deviceRules.forget(container)
    this.rulesPace.forget(container)
    this.sysinfo.forget(container)
    this.replyCache.forget(container)
    this.walkers.set(container, 'never')
  }

  /** One more mount of ours goes to this container. @returns false if it has had too many */
  countMount(container: number): boolean {
    return Atomics.add(this.#containerMounts, container, 1) < MOUNTS_LIMIT
  }
}

const seconds = (): number => Math.trunc(now() / 1000)
