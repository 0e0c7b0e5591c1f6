import { Worker } from 'node:worker_threads'
import { requireOwnFiles } from '../../kernel/build.ts'
import { timerfd } from '../../kernel/timer.ts'
import type { Leadership } from '../leader/leadership.ts'
import type { SharedState } from '../thread/shared-state.ts'
import type { FromThread, MainRequest, ThreadData, ToThread } from '../thread/thread-messages.ts'

/** What is the same for all of them. */
export type SharedData = Omit<ThreadData, 'number' | 'alarm'>

interface Ties {
  /** Called with each thread that is started, before it serves: it knows nothing yet. */
  readonly onStart: (tell: (message: ToThread) => void) => void
  /** Those that were wanted at the start are there. */
  readonly onReady: (threads: number) => void
  readonly onErrand: (errand: MainRequest) => void
  readonly onFault: (message: string) => void
}

/** Threads that no call gets: the leader, its deputy, and who attends a listener. */
const SPARE = 3
/** The ending of this file is the ending of the other: it runs from the sources' build only. */
const THREAD = new URL(`../thread/thread${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url)

/** Its call may wait for an answer: this engine ends, and the next one sees to it. */
function failed({ message }: { readonly message: string }): never {
  throw new Error(`a thread failed: ${message}`)
}

/** The worker threads that serve: more are made when none is left to take the lead, and one that is lost is replaced. */
export class Threads {
  readonly #data: SharedData
  readonly #ties: Ties
  readonly #alarm = timerfd()
  readonly #lead: Leadership
  readonly #wanted: number
  readonly #workers = new Set<Worker>()
  /** Those that were started and are not ready yet: one is enough at a time. */
  readonly #starting = new Set<Worker>()
  #ready = 0
  #lost = 0
  #number = 0

  /**
   * @param count at the start
   */
  constructor(count: number, data: SharedData, state: SharedState, ties: Ties) {
    this.#wanted = count
    this.#data = data
    this.#ties = ties
    this.#lead = state.leadershipOf({ processors: data.processors, alarm: this.#alarm.raw })
    for (let started = 0; started < count; started++) this.#start()
  }

  tell(message: ToThread): void {
    for (const worker of this.#workers) worker.postMessage(message)
    this.#lead.wakeFollower()
  }

  /** @throws {Error} that ends this engine if the files were replaced: the keeper sees to it that the next one is of them */
  #start(): void {
    requireOwnFiles()
    const workerData: ThreadData = { ...this.#data, alarm: this.#alarm.raw, number: ++this.#number }
    const worker = new Worker(THREAD, { workerData, resourceLimits: { maxYoungGenerationSizeMb: 4 } })
    this.#workers.add(worker)
    this.#starting.add(worker)
    this.#ties.onStart((message) => worker.postMessage(message))
    worker.on('message', (message: FromThread) => this.#hear(message, worker))
    worker.on('error', failed)
    worker.on('exit', () => failed({ message: 'it is over' }))
  }

  #hear(message: FromThread, worker: Worker): void {
    switch (message.type) {
      case 'ready':
        this.#starting.delete(worker)
        if (++this.#ready === this.#wanted) this.#ties.onReady(this.#ready)
        break
      case 'grow':
        this.#grow()
        break
      case 'lost':
        this.#ties.onFault(message.message)
        this.#lose(worker)
        break
      case 'failed':
        failed(message)
        break
      case 'fault':
        this.#ties.onFault(message.message)
        break
      default:
        this.#ties.onErrand(message)
    }
  }

  get #most(): number {
    return this.#data.calls + SPARE
  }

  #grow(): void {
    if (this.#lead.parked > 0 || this.#starting.size > 0 || this.#workers.size >= this.#most) return
    this.#start()
  }

  /** A thread that stands somewhere else is replaced; an engine that loses them all the time gives up. */
  #lose(worker: Worker): void {
    this.#starting.delete(worker)
    if (!this.#workers.delete(worker)) return
    if (++this.#lost > this.#most) throw new Error(`Cannot go on: ${this.#lost} threads were lost`)
    this.#start()
  }
}
