import { WaitingWorker } from './waiting-worker.ts'

/**
 * The first serving thread. Node takes as long for a thread as for a process, and the first call waits for it: so it is
 * started before anything else of the engine is loaded.
 */
export const firstWorker = new WaitingWorker()
// If it fails before it is known to `Threads`, the engine ends as it does later.
firstWorker.worker.on('error', (error) => {
  throw error
})
