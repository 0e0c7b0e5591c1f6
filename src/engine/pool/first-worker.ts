import { WaitingWorker } from './waiting-worker.ts'

/**
 * The first serving thread. Node takes as long to start a thread as a process, and the first call waits for it. So the
 * engine starts it before it loads anything else.
 */
export const firstWorker = new WaitingWorker()
// If it fails before it is known to `Threads`, the engine ends as it does later.
firstWorker.worker.on('error', (error) => {
  throw error
})
