import { type ChildProcess, spawn } from 'node:child_process'
import { spawnWithoutInheritedFds } from '../../kernel/spawn-fds.ts'
import { setAndWake, waitWhile } from '../../shared/words.ts'

export type Spawn = typeof spawn

const PATIENCE_MS = 1000
/**
 * Does the main thread start a process just now?
 *
 *   rests -> starts   SpawnGuard.spawn()
 *   starts -> rests   SpawnGuard.spawn(): the process has none of our descriptors any more
 */
const GUARD = { rests: 0, starts: 1 } as const

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
    Atomics.store(this.#word, 0, GUARD.starts)
    try {
      return spawnWithoutInheritedFds(() => spawn(...args))
    } finally {
      setAndWake(this.#word, 0, GUARD.rests)
    }
  }) as Spawn

  /** Waits, for at most `PATIENCE_MS`, until no new process can have descriptors that were closed before this call. */
  settle(): void {
    waitWhile(this.#word, 0, GUARD.starts, PATIENCE_MS)
  }
}
