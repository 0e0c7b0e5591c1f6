import { setTimeout as sleep } from 'node:timers/promises'
import type { Fd } from '../../kernel/fd.ts'
import { MounterProcess } from './mounter-process.ts'
import { poolShare } from './pool-share.ts'
import type { Spawn } from './spawn-guard.ts'

/** Mounters at once, of the host and working for one container; those that hang count until they end. */
export const MOUNTERS = 8
const MOUNTERS_PER_CONTAINER = 2
/** How long a mount waits for those before it. */
const QUEUE_MS = 5000
/** Processes of 40 MB: one is kept for the next mount, for so long. */
const IDLE_MS = 10_000
/** How long one may take to start, or still work for an engine before this one, until it counts as hanging. */
const PATIENCE_MS = 20_000
/** And how long mounts wait for it. */
const HASTE_MS = 500
/** When all mounters are busy, or none can be started. */
const RETRY_MS = 1000
/** For which container it works is not known, or it works for none. */
const EARLIER = -1

interface Mounter {
  readonly process: MounterProcess
  /** For which container it works, or hangs. */
  container: number | undefined
  /** Its socket is: it may be lent. */
  open: boolean
  /** Resolves once it has started, and done what an engine before this one has asked for; to false if it does not. */
  readonly started: Promise<boolean>
  idle: NodeJS.Timeout | undefined
}

/** A thread that waits for a mounter. */
interface Wish {
  readonly container: number
  /** Given the descriptor of its socket, which stays ours; or undefined, if the container or the host has had too many for long. */
  readonly grant: (socket: number | undefined) => void
  readonly timer: NodeJS.Timeout
}

interface Ties {
  readonly spawn: Spawn
  /** Called with each that was started: whoever holds its descriptors lets it outlive this engine. */
  readonly keep: (mounter: MounterProcess) => void
  readonly fault: (message: string) => void
}

/**
 * The mounters, each lent to one thread at a time; see mounter/main.ts. They outlive the engine, since it may be followed
 * by many that do not live until a mounter of theirs has started.
 */
export class Mounters {
  readonly #all = new Set<Mounter>()
  readonly #queue = new Set<Wish>()
  readonly #ties: Ties
  /** Those of an engine before this one that may soon be free. */
  #awaited = 0
  readonly #greeted: Promise<unknown>[] = []

  constructor(ties: Ties) {
    this.#ties = ties
  }

  /** Takes one over from an engine before this one. @param socket owned here, and so is `pidfd` */
  takeOver(socket: Fd, pidfd: Fd): void {
    void this.#await(this.#add(new MounterProcess(socket, pidfd), EARLIER))
  }

  /**
   * Resolves when those of an engine before this one have done what that has asked for, but for those that hang: only then it
   * can be seen what became of its mounts.
   */
  get greeted(): Promise<unknown> {
    return Promise.all(this.#greeted)
  }

  /** Lends one as soon as it can. */
  lend(container: number, grant: Wish['grant']): void {
    const timer = setTimeout(() => {
      this.#queue.delete(wish)
      grant(undefined)
    }, QUEUE_MS)
    const wish: Wish = { container, grant, timer }
    this.#queue.add(wish)
    this.#serve()
  }

  /** @param lost it did not answer: it is ended, and where the kernel does not let it, it counts until it is back */
  giveBack(socket: number, lost: boolean): void {
    const mounter = [...this.#all].find((each) => each.open && each.process.socket.raw === socket)
    if (mounter) this.#release(mounter, lost)
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
   * Lets a mounter close what may be the last of a file system, and so may hang where that does: the main thread must not.
   *
   * @param fds owned here
   */
  discard(fds: readonly Fd[]): void {
    const mounter = this.#take(EARLIER)
    if (mounter) void this.#discard(fds, mounter)
    else setTimeout(() => this.discard(fds), RETRY_MS)
  }

  async #discard(fds: readonly Fd[], mounter: Mounter): Promise<void> {
    await mounter.started
    try {
      this.#release(mounter, !(await mounter.process.comesFree(PATIENCE_MS, fds)))
    } catch {
      this.#release(mounter, true)
      setTimeout(() => this.discard(fds), RETRY_MS)
    }
  }

  #release(mounter: Mounter, lost: boolean): void {
    mounter.container = lost ? mounter.container : undefined
    if (lost) {
      this.#close(mounter)
      mounter.process.kill()
    }
    this.#serve()
    if (!mounter.open || mounter.container !== undefined) return
    const spare = [...this.#all].some((each) => each !== mounter && each.open && each.container === undefined)
    if (spare) this.#close(mounter)
    else mounter.idle = setTimeout(() => this.#close(mounter), IDLE_MS)
  }

  #serve(): void {
    this.#tidy()
    for (const wish of this.#queue) {
      const mounter = this.#find(wish.container)
      if (!mounter) continue
      clearTimeout(wish.timer)
      this.#queue.delete(wish)
      void this.#grant(mounter, wish.grant)
    }
  }

  /**
   * Only when it has started: what lies in its socket until then nobody can take back if this engine ends, and a mount that
   * lies there cannot be unmounted. One that does not start is lent all the same: whoever asks it learns why.
   */
  async #grant({ process, started }: Mounter, grant: Wish['grant']): Promise<void> {
    await started
    grant(process.socket.raw)
  }

  #find(container: number): Mounter | undefined {
    const busy = [...this.#all].filter((each) => each.container !== undefined)
    const mine = busy.filter((each) => each.container === container)
    if (mine.length >= poolShare(busy.length, MOUNTERS, MOUNTERS_PER_CONTAINER)) return undefined
    return this.#take(container)
  }

  #take(container: number): Mounter | undefined {
    const mounter = this.#free ?? this.#start()
    if (!mounter) return undefined
    clearTimeout(mounter.idle)
    mounter.container = container
    return mounter
  }

  get #free(): Mounter | undefined {
    return [...this.#all].find((each) => each.open && each.container === undefined)
  }

  #start(): Mounter | undefined {
    if (this.#awaited > 0 || this.#all.size >= MOUNTERS) return undefined
    const fault = ({ message }: Error): void => this.#ties.fault(`Cannot start a mounter: ${message}`)
    const process = MounterProcess.start({ spawn: this.#ties.spawn, onEnd: () => this.#serve(), onError: fault })
    if (!process) return undefined
    const mounter = this.#add(process, undefined)
    this.#ties.keep(process)
    return mounter
  }

  #add(process: MounterProcess, container: number | undefined): Mounter {
    const started = process.comesFree(PATIENCE_MS).catch(() => false)
    const mounter = { process, container, open: true, started, idle: undefined }
    this.#all.add(mounter)
    return mounter
  }

  #close(mounter: Mounter): void {
    clearTimeout(mounter.idle)
    mounter.open = false
    mounter.process.close()
  }

  /** Forgets those that have ended; a thread that has one finds the end of its socket, and gives it back. */
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
