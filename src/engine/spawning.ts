import { type ChildProcess, spawn } from 'node:child_process'
import { dup, type Fd } from '../kernel/fd.ts'
import { pipe } from '../kernel/pipe.ts'
import { waitReadable } from '../kernel/socket.ts'

export type Spawn = typeof spawn

const PATIENCE_MS = 1000
/** Above the numbers of all others, as long as there are not very many. */
const LAST = 16_384

/**
 * A process that is being started has copies of all our descriptors until it executes its program, which takes milliseconds
 * where no processor is free: what was closed meanwhile is still open, and a mount that its caller has just placed is busy.
 */
export class Spawning {
  readonly #word: Int32Array

  /** @param word shared by the main thread, which alone starts processes, and all others */
  constructor(word: Int32Array) {
    this.#word = word
  }

  /** As Node has it; returns when the process has none of our descriptors any more. */
  readonly spawn: Spawn = ((...args: Parameters<Spawn>): ChildProcess => {
    Atomics.store(this.#word, 0, 1)
    try {
      return withoutCopies(() => spawn(...args))
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

/**
 * execve(2) closes descriptors in the order of their numbers (fs/file.c do_close_on_exec()), and libuv's sign that it has begun
 * is one of the first: so there is one that is closed last.
 */
function withoutCopies(start: () => ChildProcess): ChildProcess {
  const ends = last()
  if (!ends) return start()
  using read = ends.read
  try {
    return start()
  } finally {
    ends.write[Symbol.dispose]()
    waitReadable(read, PATIENCE_MS)
  }
}

/** A pipe whose writing end has a high number; undefined if no descriptor may have it. */
function last(): { readonly read: Fd; readonly write: Fd } | undefined {
  try {
    const { read, write } = pipe()
    using low = write
    try {
      return { read, write: dup(low, LAST) }
    } catch {
      read[Symbol.dispose]()
    }
  } catch {
    // There is no descriptor for it: the process will hardly start either.
  }
  return undefined
}
