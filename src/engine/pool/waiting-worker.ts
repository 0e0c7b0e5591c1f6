import { setFlagsFromString } from 'node:v8'
import { Worker } from 'node:worker_threads'
import { moduleUrl } from '../../processes/node-programs.ts'
import { OneShot } from '../../shared/words.ts'
import type { ThreadData } from '../thread/thread-messages.ts'

/** The size of each of the three spaces for a thread's new objects, in MiB. Larger ones cause longer pauses. */
const NEW_SPACE_MIB = 2
// V8 doubles these spaces as objects survive, in the main thread up to 16 MiB each, and keeps them. The main thread does
// with what it begins with; the other threads begin with all that they may have.
setFlagsFromString('--semi-space-growth-factor=1')
setFlagsFromString(`--min-semi-space-size=${NEW_SPACE_MIB}`)
/** A worker cannot be a .ts file on Node 20, so only dist/ works. */
const THREAD = moduleUrl('engine/thread/thread')
const GIVEN = 1

/** A Node thread that has loaded its code, or soon will, and waits for the data that it needs to serve. */
export class WaitingWorker {
  readonly worker: Worker
  readonly #given = new OneShot()

  constructor() {
    this.worker = new Worker(THREAD, {
      workerData: this.#given.buffer,
      resourceLimits: { maxYoungGenerationSizeMb: 3 * NEW_SPACE_MIB },
    })
  }

  /** Lets the thread serve. To be called once, before any other message. */
  give(data: ThreadData): Worker {
    this.worker.postMessage(data)
    this.#given.set(GIVEN)
    return this.worker
  }
}
