import { Worker } from 'node:worker_threads'
import { moduleUrl } from '../../processes/node-programs.ts'
import { OneShot } from '../../shared/one-shot.ts'
import type { ThreadData } from '../thread/thread-messages.ts'

/** The memory of the new objects of a thread, in MiB: three spaces of 2 MiB, since larger ones have longer pauses. */
const NEW_OBJECTS_MIB = 6
/** A worker cannot be a .ts file on Node 20, so only dist/ works. */
const THREAD = moduleUrl('engine/thread/thread')
const GIVEN = 1

/** A thread of Node's that has loaded its code, or will soon, and waits for the data with which it can serve. */
export class WaitingWorker {
  readonly worker: Worker
  readonly #given = new OneShot()

  constructor() {
    this.worker = new Worker(THREAD, {
      workerData: this.#given.buffer,
      resourceLimits: { maxYoungGenerationSizeMb: NEW_OBJECTS_MIB },
    })
  }

  /** Lets it serve. To be called once, before any other message. */
  give(data: ThreadData): Worker {
    this.worker.postMessage(data)
    this.#given.set(GIVEN)
    return this.worker
  }
}
