import { type ChildProcess, spawn } from 'node:child_process'
import { spawnWithoutInheritedFds } from '../../kernel/started.ts'

export type Spawn = typeof spawn

const PATIENCE_MS = 1000

/**
 * A process that is being started has copies of all our descriptors until it executes its program, which takes milliseconds
 * where no processor is free: what was closed meanwhile is still open, and a mount that its caller has just placed is busy.
 */
export class SpawnGuard {
  readonly #word: Int32Array

  /** @param word shared by the main thread, which alone starts processes, and all others */
  constructor(word: Int32Array) {
    this.#word = word
  }

  /** As Node has it; returns when the process has none of our descriptors any more. */
  readonly spawn: Spawn = ((...args: Parameters<Spawn>): ChildProcess => {
    Atomics.store(this.#word, 0, 1)
    try {
      return spawnWithoutInheritedFds(() => spawn(...args))
    } finally {
      Atomics.store(this.#word, 0, 0)
      Atomics.notify(this.#word, 0)
    }
  }) as Spawn

  /** Waits until nobody has any more what was closed before. */
  settle(): void {
    Atomics.wait(this.#word, 0, 1, PATIENCE_MS)
  }
}
