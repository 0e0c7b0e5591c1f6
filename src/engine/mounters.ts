import { type ChildProcess, spawn } from 'node:child_process'
import { build, requireOwnFiles } from '../kernel/build.ts'
import type { Fd } from '../kernel/fd.ts'
import { socketpair } from '../kernel/socket.ts'
import { shareOf } from './share.ts'

/** Mounters at once, of the host and working for one container; those that hang count until they end. */
const MOUNTERS = 8
const MOUNTERS_PER_CONTAINER = 2
/** How long a mount waits for those before it. */
const QUEUE_MS = 5000
/** Processes of 40 MB: one is kept for the next mount, for so long. */
const IDLE_MS = 10_000
const FLAGS = ['--max-semi-space-size=1', '--stack-trace-limit=0']
const MAIN = new URL(`../caller/mounter-main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url)

interface Mounter {
  readonly child: ChildProcess
  readonly socket: Fd
  /** For which container it works, or hangs. */
  container: number | undefined
  /** Its socket is: it may be lent. */
  open: boolean
  ended: boolean
  idle: NodeJS.Timeout | undefined
}

/** A thread that waits for a mounter. */
interface Wish {
  readonly container: number
  /** Given the descriptor of its socket, which stays ours; or undefined, if the container or the host has had too many for long. */
  readonly grant: (socket: number | undefined) => void
  readonly timer: NodeJS.Timeout
}

/** The mounters, each lent to one thread at a time; see caller/mounter-main.ts. */
export class Mounters {
  readonly #all = new Set<Mounter>()
  readonly #queue = new Set<Wish>()
  readonly #fault: (message: string) => void

  constructor(fault: (message: string) => void) {
    this.#fault = fault
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

  #serve(): void {
    for (const wish of this.#queue) {
      const socket = this.#find(wish.container)
      if (socket === undefined) continue
      clearTimeout(wish.timer)
      this.#queue.delete(wish)
      wish.grant(socket)
    }
  }

  #find(container: number): number | undefined {
    const busy = [...this.#all].filter((each) => each.container !== undefined)
    const mine = busy.filter((each) => each.container === container)
    if (mine.length >= shareOf(busy.length, MOUNTERS, MOUNTERS_PER_CONTAINER)) return undefined
    const idle = [...this.#all].find((each) => each.open && each.container === undefined)
    if (!idle && this.#all.size >= MOUNTERS) return undefined
    const mounter = idle ?? this.#tryStart()
    if (!mounter) return undefined
    clearTimeout(mounter.idle)
    mounter.container = container
    return mounter.socket.raw
  }

  /** @param lost it did not answer: it is ended, and where the kernel does not let it, it counts until it is back */
  giveBack(socket: number, lost: boolean): void {
    const mounter = [...this.#all].find((each) => each.open && each.socket.raw === socket)
    if (!mounter) return
    if (lost || mounter.ended) {
      this.#close(mounter)
      mounter.child.kill('SIGKILL')
      this.#serve()
      return
    }
    mounter.container = undefined
    this.#serve()
    if (mounter.container !== undefined) return
    const spare = [...this.#all].some((each) => each !== mounter && each.open && each.container === undefined)
    if (spare) this.#close(mounter)
    else mounter.idle = setTimeout(() => this.#close(mounter), IDLE_MS)
  }

  /** It ends at the end of its socket. */
  #close(mounter: Mounter): void {
    clearTimeout(mounter.idle)
    mounter.open = false
    mounter.socket[Symbol.dispose]()
    if (mounter.ended) this.#all.delete(mounter)
  }

  #tryStart(): Mounter | undefined {
    requireOwnFiles()
    try {
      return this.#start()
    } catch (error) {
      this.#fault(`Cannot start a mounter: ${(error as Error).message}`)
      return undefined
    }
  }

  #start(): Mounter {
    const [ours, theirs] = socketpair()
    using end = theirs
    const child = spawn(process.execPath, [...FLAGS, MAIN.pathname, build], {
      stdio: ['ignore', 'ignore', 'inherit', end.raw],
      env: { UV_USE_IO_URING: '0', TZ: 'UTC', PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      cwd: '/',
    })
    const mounter: Mounter = { child, socket: ours, container: undefined, open: true, ended: false, idle: undefined }
    this.#all.add(mounter)
    child.on('error', (error) => {
      this.#fault(`Cannot start a mounter: ${error.message}`)
      this.#onEnd(mounter)
    })
    child.on('exit', () => this.#onEnd(mounter))
    return mounter
  }

  /** A thread that has it finds the end of its socket, and gives it back. */
  #onEnd(mounter: Mounter): void {
    mounter.ended = true
    if (!mounter.open) this.#all.delete(mounter)
    else if (mounter.container === undefined) this.#close(mounter)
    this.#serve()
  }
}
