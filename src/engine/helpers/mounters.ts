import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { MounterState } from '../../caller/mounts/mounter-client.ts'
import { now } from '../../kernel/clock.ts'
import type { Fd } from '../../kernel/fd.ts'
import { MANY_HANG, MOUNTERS, MOUNTERS_PER_CONTAINER, poolShare } from '../../link/limits.ts'
import { MounterProcess } from './mounter-process.ts'
import type { StartHelper } from './spawn-guard.ts'

/** How long a mount waits for a free mounter while none comes free, and in all: slow mounters are not busy for ever. */
const QUEUE_MS = 5000
const LONGEST_QUEUE_MS = 20_000
/**
 * How many idle mounters are kept for the next mounts, and how long; each is a process of 40 MB. One container can use
 * two.
 */
const IDLE_MOUNTERS = 4
const IDLE_MS = 10_000
/** How long more than these are kept: to start one again costs as much as 30 mounts. */
const SURPLUS_MS = 1000
/** How long a mounter whose caller is gone may sleep until it has finished its work, before it is killed. */
const FINISH_MS = 2000
/** How long a mounter may sleep until it has started, or finished the previous engine's requests; then it hangs. */
const PATIENCE_MS = 20_000
/**
 * How long new mounts wait for mounters of the previous engine, before other mounters are started, and the next
 * descriptors for those that are closed.
 */
const HASTE_MS = 500
/** When to try again to discard descriptors, if all mounters are busy or none can be started. */
const RETRY_MS = 1000
/**
 * What a container owes, in milliseconds, for each of its mounters that ended or had to be killed: its groups may kill
 * what is in them, its memory may run out. And how much it may owe before its mounts wait. Starting Node occupies a
 * processor for 200 ms, so a container has a twenty-fifth of one for that. As long as it owes anything, it gets
 * mounters of its own, and none of those that are kept for all.
 */
const PRICE_MS = 5000
const CREDIT_MS = PRICE_MS
const MOST_MS = 6 * PRICE_MS
/**
 * A container whose mounters take more than a fortieth of one processor, after a second that it may take at once, is
 * heavy until time has paid. That is a hundred mounts, then three a second. What the engine itself does to lend a
 * mounter counts as `LEND_MS`.
 */
const WORK_PARTS = 40
const WORK_CREDIT_MS = 1000 * WORK_PARTS
const MOST_WORK_MS = 1.25 * WORK_CREDIT_MS
const LEND_MS = 3
/**
 * Heavy containers together get mounters for an eighth of the processors: after each work for one of them, all of them
 * wait in proportion, but at most `REST_MS`: on a slow machine, where the start of a mounter takes seconds, the next
 * mount must not give up before that. As long as that work lasts, but at most `TURN_MS`, no other heavy container gets
 * a mounter.
 */
const REST = Math.max(0, 8 / availableParallelism() - 1)
const REST_MS = 0.6 * QUEUE_MS
const TURN_MS = 100
/** How many may hang without memory. Those beyond count as long as they hang, and keep the host's mounters busy. */
const HANGING = 1024
/** Stands for the container of a mounter that works for the previous engine, or for no container. */
const NO_CONTAINER = -1

/**
 * The state of a mounter follows from `open` and `container`. free: open, for no container. lent: open, for a
 * container. hung: not open, for a container. closed: not open, for no container; it ends as soon as it can.
 *
 *   free -> lent     Mounters.lend(), Mounters.discard()
 *   lent -> free     Mounters.giveBack()
 *   free -> closed   Mounters.giveBack(), after IDLE_MS, or SURPLUS_MS if IDLE_MOUNTERS are free already
 *   lent -> hung     Mounters.giveBack(), if it did not answer: it is killed. Its container may end, but what it hangs
 *                    in may live on in another one: once its memory is released, it counts for its container only
 *
 * A started mounter is free. A mounter of the previous engine is lent until it answers, and so is one whose caller is
 * gone: when it answers, it has left the caller's cgroups and closed everything that it had for that caller. Only the
 * main thread uses all of this.
 */
interface Mounter {
  readonly process: MounterProcess
  /** The serial of the container for which the mounter works or hangs; undefined if it is free. */
  container: number | undefined
  /** Whether the socket is open, so that the mounter may be lent. */
  open: boolean
  /** Resolves when it has started and served the previous engine's requests; to false after `PATIENCE_MS`. */
  readonly started: Promise<boolean>
  /** The serial of a container that owed something when this mounter was started for it: no other container gets it. */
  readonly owner: number | undefined
  idle: NodeJS.Timeout | undefined
  /** Its processor time in milliseconds that containers were charged for. A new one has taken more to start. */
  charged: number
  /** Whether it was killed, and has no memory. */
  isEmpty: boolean
}

/** What each container owes, in milliseconds of the time that pays for it. */
class Debts {
  readonly #most: number
  /** By container: the time at which it will have paid for everything. */
  readonly #due = new Map<number, number>()

  /** @param most no container owes more */
  constructor(most: number) {
    this.#most = most
  }

  owes(container: number): number {
    return Math.max(0, (this.#due.get(container) ?? 0) - now())
  }

  charge(container: number, price: number): void {
    for (const each of this.#due.keys()) if (this.owes(each) === 0) this.#due.delete(each)
    this.#due.set(container, now() + Math.min(this.owes(container) + price, this.#most))
  }
}

/** A thread that waits for a mounter. */
interface Wish {
  readonly container: number
  /**
   * Called with the mounter's socket, which `Mounters` still owns; with undefined if the container or the host has had
   * too many busy mounters for `QUEUE_MS`.
   */
  readonly grant: (socket: number | undefined) => void
  readonly timer: NodeJS.Timeout
  readonly since: number
}

interface MountersDependencies {
  readonly start: StartHelper
  /** Called with each mounter that was started: the keeper gets copies of its descriptors, so that it outlives us. */
  readonly keep: (mounter: MounterProcess) => void
  readonly fault: (message: string) => void
}

/**
 * Starts the mounters and lends each to one thread at a time; see mounter/main.ts. Mounters outlive their engine,
 * because each engine of a series may live shorter than a mounter takes to start.
 */
export class Mounters {
  readonly #all = new Set<Mounter>()
  readonly #queue = new Set<Wish>()
  readonly #dependencies: MountersDependencies
  /** The number of mounters of the previous engine which may soon be free. */
  #awaited = 0
  readonly #greeted: Promise<unknown>[] = []
  readonly #discards = new Set<Promise<void>>()
  /** Resolves when the next descriptors may be discarded. */
  #nextDiscard: Promise<void> = Promise.resolve()
  /** For mounters that ended. */
  readonly #ended = new Debts(MOST_MS)
  /** For the processor time of mounters. */
  readonly #worked = new Debts(MOST_WORK_MS)
  /** When the next heavy container may get a mounter, and what serves the queue then. */
  #nextTurn = 0
  #turn: NodeJS.Timeout | undefined

  constructor(dependencies: MountersDependencies) {
    this.#dependencies = dependencies
  }

  /** Takes over a mounter of the previous engine. @param socket owned here from now on, as is `pidfd` */
  takeOver(socket: Fd, pidfd: Fd): void {
    void this.#await(this.#add(new MounterProcess(socket, pidfd), NO_CONTAINER))
  }

  /**
   * Resolves when each mounter of the previous engine has served its requests, and what that engine left is closed, or
   * when `HASTE_MS` have passed. Only then may we look for the result of a call that the previous engine had begun, or
   * answer it: the caller may at once unmount something that we still hold.
   */
  get settled(): Promise<unknown> {
    const discarded = Promise.all(this.#discards)
    return Promise.all([...this.#greeted, this.#discards.size > 0 && Promise.race([discarded, sleep(HASTE_MS)])])
  }

  /** Lends a mounter as soon as one is free or may be started. @param container its serial */
  lend(container: number, grant: Wish['grant']): void {
    const timer = setTimeout(() => {
      this.#queue.delete(wish)
      grant(undefined)
    }, QUEUE_MS)
    const wish: Wish = { container, grant, timer, since: now() }
    this.#queue.add(wish)
    this.#serve()
    const wait = this.#ended.owes(container) - CREDIT_MS
    if (wait > 0) setTimeout(() => this.#serve(), wait)
  }

  #isHeavy(container: number): boolean {
    return this.#worked.owes(container) > WORK_CREDIT_MS
  }

  /** Charges a container for the work of a mounter that it gives back. */
  #chargeWork(mounter: Mounter, container: number): void {
    const { processorTime } = mounter.process
    const spent = LEND_MS + Math.max(0, processorTime - mounter.charged)
    mounter.charged = processorTime
    if (this.#isHeavy(container)) this.#nextTurn = now() + Math.min(REST * spent, REST_MS)
    this.#worked.charge(container, WORK_PARTS * spent)
  }

  /** Tells whether a container must wait, because it is heavy and others of those come first. */
  #mustRest(container: number): boolean {
    const wait = this.#isHeavy(container) ? this.#nextTurn - now() : 0
    if (wait <= 0) return false
    this.#turn ??= setTimeout(() => {
      this.#turn = undefined
      this.#serve()
    }, wait)
    return true
  }

  /** Takes a mounter back. @param state if it is lost it is killed */
  giveBack(socket: number, state: MounterState): void {
    const mounter = [...this.#all].find((each) => each.open && each.process.socket.raw === socket)
    if (!mounter) return
    if (mounter.container !== undefined) this.#chargeWork(mounter, mounter.container)
    if (state === 'working') void this.#finish(mounter)
    else this.#release(mounter, state === 'lost')
  }

  async #finish(mounter: Mounter): Promise<void> {
    this.#release(mounter, !(await mounter.process.comesFree(FINISH_MS).catch(() => false)))
  }

  async #await(mounter: Mounter): Promise<void> {
    this.#awaited++
    const first = Promise.race([mounter.started, sleep(HASTE_MS)])
    this.#greeted.push(first)
    const soon = await first
    this.#awaited--
    if (soon === undefined) this.#serve()
    this.#release(mounter, !(await mounter.started))
  }

  /**
   * Lets a mounter close descriptors: each may be the last reference to a file system, and closing it may hang in that
   * file system, which the main thread must not. One after the other: what many containers leave at once must not take
   * all mounters, for which others wait. Only one that takes longer is not waited for.
   *
   * @param fds owned here from now on
   */
  discard(fds: readonly Fd[]): void {
    const done = this.#discard(fds).finally(() => this.#discards.delete(done))
    this.#discards.add(done)
  }

  async #discard(fds: readonly Fd[]): Promise<void> {
    // Mounters are not started before that.
    await Promise.all(this.#greeted)
    const turn = this.#nextDiscard
    let pass = (): void => {}
    this.#nextDiscard = new Promise((resolve) => {
      pass = resolve
    })
    await turn
    while (!(await this.#closeElsewhere(fds, pass))) await sleep(RETRY_MS)
    pass()
  }

  /**
   * @param onSlow called if that takes longer
   * @returns false if no mounter took them: then nothing is closed
   */
  async #closeElsewhere(fds: readonly Fd[], onSlow: () => void): Promise<boolean> {
    const mounter = this.#take(NO_CONTAINER)
    await mounter?.started
    const timer = setTimeout(onSlow, HASTE_MS)
    const free = await mounter?.process.comesFree(PATIENCE_MS, fds).catch(() => undefined)
    clearTimeout(timer)
    if (mounter) this.#release(mounter, free !== true)
    return free !== undefined
  }

  #release(mounter: Mounter, lost: boolean): void {
    if (lost && mounter.container !== undefined && mounter.container !== NO_CONTAINER)
      this.#ended.charge(mounter.container, PRICE_MS)
    mounter.container = lost ? mounter.container : undefined
    if (lost) {
      this.#close(mounter)
      const hanging = this.#all.size - this.#counted.length
      mounter.isEmpty = mounter.process.kill() && hanging < HANGING
    } else {
      for (const { timer, since } of this.#queue) if (now() - since < LONGEST_QUEUE_MS - QUEUE_MS) timer.refresh()
    }
    this.#serve()
    if (!mounter.open || mounter.container !== undefined) return
    const isForAll = mounter.owner === undefined
    const idle = this.#free.filter(({ owner }) => (owner === undefined) === isForAll)
    const patience = idle.length > IDLE_MOUNTERS ? SURPLUS_MS : IDLE_MS
    mounter.idle = setTimeout(() => this.#close(mounter), patience)
  }

  #serve(): void {
    this.#tidy()
    for (const wish of this.#queue) {
      if (this.#mustRest(wish.container)) continue
      const mounter = this.#find(wish.container)
      if (!mounter) continue
      if (this.#isHeavy(wish.container)) this.#nextTurn = now() + TURN_MS
      clearTimeout(wish.timer)
      this.#queue.delete(wish)
      void this.#grant(mounter, wish.grant)
    }
  }

  /**
   * Lends the socket only when the mounter has started: a request that lies in the socket when this engine ends cannot
   * be taken back, and a mount whose descriptor lies there cannot be unmounted. A mounter that does not start is lent
   * nevertheless: the thread then gets an error when it asks.
   */
  async #grant({ process, started }: Mounter, grant: Wish['grant']): Promise<void> {
    await started
    grant(process.socket.raw)
  }

  #find(container: number): Mounter | undefined {
    const counted = this.#counted
    const busy = counted.filter((each) => each.container !== undefined).length
    const mine = [...this.#all].filter((each) => each.container === container).length
    const hanging = this.#all.size - counted.length
    const share = poolShare(hanging, MANY_HANG, poolShare(busy, MOUNTERS, MOUNTERS_PER_CONTAINER))
    if (mine >= share) return undefined
    return this.#ended.owes(container) > CREDIT_MS ? undefined : this.#take(container)
  }

  #take(container: number): Mounter | undefined {
    const owner = this.#ended.owes(container) > 0 ? container : undefined
    const mounter = this.#free.find((each) => each.owner === owner) ?? this.#start(owner)
    if (!mounter) return undefined
    clearTimeout(mounter.idle)
    mounter.container = container
    return mounter
  }

  /** Those of which there may be `MOUNTERS`. */
  get #counted(): readonly Mounter[] {
    return [...this.#all].filter(({ isEmpty }) => !isEmpty)
  }

  get #free(): readonly Mounter[] {
    return [...this.#all].filter((each) => each.open && each.container === undefined)
  }

  #start(owner: number | undefined): Mounter | undefined {
    if (this.#awaited > 0) return undefined
    if (this.#counted.length >= MOUNTERS) {
      const spare = this.#free.find((each) => each.owner !== undefined)
      if (spare) this.#close(spare)
      return undefined
    }
    const fault = ({ message }: Error): void => this.#dependencies.fault(`Cannot start a mounter: ${message}`)
    const process = MounterProcess.start({
      start: this.#dependencies.start,
      onEnd: () => this.#serve(),
      onError: fault,
    })
    if (!process) return undefined
    const mounter = this.#add(process, undefined, owner)
    this.#dependencies.keep(process)
    return mounter
  }

  #add(process: MounterProcess, container: number | undefined, owner?: number): Mounter {
    const started = process.comesFree(PATIENCE_MS).catch(() => false)
    // What a mounter of the previous engine has taken is nobody's any more.
    const charged = container === NO_CONTAINER ? process.processorTime : 0
    const mounter = { process, container, open: true, started, owner, idle: undefined, charged, isEmpty: false }
    this.#all.add(mounter)
    return mounter
  }

  #close(mounter: Mounter): void {
    clearTimeout(mounter.idle)
    mounter.open = false
    mounter.process.close()
  }

  /** Forgets mounters that have ended, unless a thread has them: that thread reads end of file and gives them back. */
  #tidy(): void {
    for (const mounter of this.#all) {
      if (!mounter.process.hasEnded) continue
      if (mounter.open && mounter.container === undefined) this.#close(mounter)
      if (mounter.open) continue
      this.#all.delete(mounter)
      mounter.process.pidfd[Symbol.dispose]()
    }
  }
}
