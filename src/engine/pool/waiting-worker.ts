import { Worker } from 'node:worker_threads'
import { moduleUrl } from '../../processes/node-programs.ts'
import { OneShot } from '../../shared/words.ts'
import type { ThreadData } from '../thread/thread-messages.ts'

/** The memory for a thread's new objects, in MiB: three spaces of 2 MiB. Larger ones cause longer pauses. */
const NEW_OBJECTS_MIB = 6
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
      resourceLimits: { maxYoungGenerationSizeMb: NEW_OBJECTS_MIB },
    })
  }

  /** Lets the thread serve. To be called once, before any other message. */
  give(data: ThreadData): Worker {
    this.worker.postMessage(data)
    this.#given.set(GIVEN)
    return this.worker
  }
}
