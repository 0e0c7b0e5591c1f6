import { type ChildProcess, spawn } from 'node:child_process'
import { spawnWithoutInheritedFds } from '../../kernel/spawn-fds.ts'

export type Spawn = typeof spawn

const PATIENCE_MS = 1000

/**
 * Starts processes, and lets other threads wait until none is being started. A forked process has copies of all our
 * descriptors until its execve(2), which takes milliseconds if no processor is free: a descriptor that we close
 * meanwhile is still open there, and so a mount which its caller has just attached is busy.
 *
 * Invariant: the word is 1 while the main thread, which alone starts processes, is between fork and execve, else 0.
 */
export class SpawnGuard {
  readonly #word: Int32Array

  /** @param word one word of the memory that all threads share */
  constructor(word: Int32Array) {
    this.#word = word
  }

  /** Does what Node's spawn does, and returns when the new process has no copies of our descriptors any more. */
  readonly spawn: Spawn = ((...args: Parameters<Spawn>): ChildProcess => {
    Atomics.store(this.#word, 0, 1)
    try {
      return spawnWithoutInheritedFds(() => spawn(...args))
    } finally {
      Atomics.store(this.#word, 0, 0)
      Atomics.notify(this.#word, 0)
    }
  }) as Spawn

  /** Waits, for at most `PATIENCE_MS`, until no new process can have descriptors that were closed before this call. */
  settle(): void {
    Atomics.wait(this.#word, 0, 1, PATIENCE_MS)
  }
}
