import type { Worker } from 'node:worker_threads'
import { timerfd } from '../../kernel/clock.ts'
import { build, buildNow, requireOwnFiles } from '../../processes/build-id.ts'
import type { Leadership } from '../leader/leadership.ts'
import { SPARE } from '../leader/thread-activity.ts'
import type { SharedState } from '../thread/shared-state.ts'
import type { FromThread, MainRequest, ThreadData, ToThread } from '../thread/thread-messages.ts'
import { WaitingWorker } from './waiting-worker.ts'

/** The data that is the same for all threads. */
export type SharedData = Omit<ThreadData, 'number' | 'alarm'>

interface ThreadsCallbacks {
  /** Called for each new thread before it serves: it knows no container yet. */
  readonly onStart: (tell: (message: ToThread) => void) => void
  /** Called once, when the initial threads are ready; the first one already serves. */
  readonly onReady: () => void
  readonly onErrand: (errand: MainRequest) => void
  readonly onFault: (message: string) => void
}

/**
 * How many messages about containers may wait for a thread that hangs in what a container serves. Each takes 800 bytes
 * of ours.
 */
const UNHEARD = 16_384

/**
 * Ends this engine, since the call of the failed thread may wait for its answer: the next engine takes the call over.
 */
function failed({ message }: { readonly message: string }): never {
  throw new Error(`a thread failed: ${message}`)
}

/** Starts the serving threads: more when none is parked, and a new one for each that is lost. */
export class Threads {
  readonly #data: SharedData
  readonly #callbacks: ThreadsCallbacks
  readonly #alarm = timerfd()
  readonly #lead: Leadership
  readonly #wanted: number
  readonly #workers = new Set<Worker>()
  /** Threads that were started and are not ready yet; while there is one, the pool does not grow. */
  readonly #starting = new Set<Worker>()
  #ready = 0
  #lost = 0
  #number = 0

  /**
   * @param count how many threads to start at first @param first one of them, which is already started
   */
  constructor(count: number, first: WaitingWorker, data: SharedData, state: SharedState, callbacks: ThreadsCallbacks) {
    this.#wanted = count
    this.#data = data
    this.#callbacks = callbacks
    this.#lead = state.leadershipOf({ processors: data.processors, alarm: this.#alarm.raw })
    this.#start(first)
  }

  tell(message: ToThread): void {
    for (const worker of this.#workers) worker.postMessage(message)
    this.#lead.notePost()
  }

  /** Whether more messages wait for a thread than the memory of an engine is for. */
  get isBehind(): boolean {
    return this.#lead.unheard > UNHEARD
  }

  /**
   * @throws {Error} if our program's files were replaced; it ends this engine, and the keeper starts the new program
   */
  #start(waiting = new WaitingWorker()): void {
    requireOwnFiles()
    const worker = waiting.give({ ...this.#data, alarm: this.#alarm.raw, number: ++this.#number })
    this.#workers.add(worker)
    this.#starting.add(worker)
    this.#callbacks.onStart((message) => worker.postMessage(message))
    worker.on('message', (message: FromThread) => this.#hear(message, worker))
    worker.on('error', failed)
    worker.on('exit', () => failed({ message: 'it is over' }))
  }

  #hear(message: FromThread, worker: Worker): void {
    switch (message.type) {
      case 'ready':
        this.#starting.delete(worker)
        this.#noteReady()
        break
      case 'grow':
        this.#grow()
        break
      case 'lost':
        this.#callbacks.onFault(message.message)
        this.#lose(worker)
        break
      case 'failed':
        failed(message)
        break
      case 'fault':
        this.#callbacks.onFault(message.message)
        break
      default:
        this.#callbacks.onErrand(message)
    }
  }

  /** Threads start one after the other: if they started together, the first call would be answered later. */
  #noteReady(): void {
    this.#ready++
    if (this.#workers.size < this.#wanted) this.#start()
    if (this.#ready === this.#wanted) this.#callbacks.onReady()
  }

  get #most(): number {
    return this.#data.calls + SPARE
  }

  #grow(): void {
    if (this.#lead.parked > 0 || this.#starting.size > 0 || this.#workers.size >= this.#most) return
    // The files may belong to another program and wait for SIGHUP. Then the present threads continue to serve. If they
    // all hang, the keeper notices the missing heartbeat.
    if (buildNow() === build) this.#start()
  }

  /** Replaces a thread that did not get back to its home state; an engine that loses too many threads gives up. */
  #lose(worker: Worker): void {
    this.#starting.delete(worker)
    if (!this.#workers.delete(worker)) return
    if (++this.#lost > this.#most) throw new Error(`Cannot go on: ${this.#lost} threads were lost`)
    this.#start()
  }
}
