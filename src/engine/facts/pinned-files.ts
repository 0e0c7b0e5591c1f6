import { TMPFS_MAGIC } from '../../abi/stat.ts'
import type { PinnedCounts } from '../../caller/caller.ts'
import type { Handle } from '../../kernel/fd.ts'
import { fileSystemId, fileSystemType, inodesOf } from '../../kernel/files.ts'
import { LIMITS } from '../../policy/limits.ts'
import { Locks } from '../../shared/lock.ts'
import { countUpTo, load64, store64, struct } from '../../shared/words.ts'

/**
 * The most files in memory that we make for one container: each charges about 1.2 KB to us, and attributes as much as
 * they are long. A mounter in the container's control groups makes further ones, which takes milliseconds.
 */
const LIMIT = 1024

/** How many files may be counted that other threads have not made yet. */
const IN_FLIGHT = LIMITS.callsPerContainer.to

/** counted: of all file systems. made: those in the tmpfs with the id `tmpfs`, 0 for none. */
const [WORD, WORDS] = struct({ lock: 1, counted: 1, made: 1, tmpfs: 2 })
export const PINNED_WORDS = WORDS

/**
 * The files that we keep in memory for each container. Those that it has removed count no more: beyond the limit its
 * last tmpfs is asked how many inodes it has. Only a tmpfs is asked: its id is random, while a container chooses that
 * of an overlay, and could make two file systems look like one.
 *
 * Invariant: any thread may call everything, and `counted` is never less than the files that there can be: at most
 * `made` of them are in `tmpfs`, and at most its inodes and those in flight. The lock guards `made` and `tmpfs`.
 */
export class PinnedFiles implements PinnedCounts {
  readonly #words: Int32Array
  readonly #locks: Locks

  /** @param words PINNED_WORDS for each container */
  constructor(words: Int32Array) {
    this.#words = words
    this.#locks = new Locks(words)
  }

  count(container: number, files: number): boolean {
    return countUpTo(LIMIT, this.#words, container * WORDS + WORD.counted, files)
  }

  countFile(container: number, dir: Handle): boolean {
    // Before 5.13 a tmpfs has no id.
    const tmpfs = fileSystemType(dir) === TMPFS_MAGIC ? fileSystemId(dir) : 0n
    return this.#locked(container, (at) => {
      if (load64(this.#words, at + WORD.tmpfs) !== tmpfs) this.#begin(at, tmpfs)
      const isCounted = this.count(container, 1) || (this.#takeBack(at, dir) && this.count(container, 1))
      if (isCounted && tmpfs !== 0n) this.#words[at + WORD.made]! += 1
      return isCounted
    })
  }

  /** Another container has this number now. */
  forget(container: number): void {
    this.#locked(container, (at) => {
      Atomics.store(this.#words, at + WORD.counted, 0)
      this.#begin(at, 0n)
    })
  }

  #begin(at: number, tmpfs: bigint): void {
    store64(this.#words, at + WORD.tmpfs, tmpfs)
    this.#words[at + WORD.made] = 0
  }

  /** @returns whether files are gone */
  #takeBack(at: number, dir: Handle): boolean {
    const made = this.#words[at + WORD.made]!
    const gone = made === 0 ? 0 : made - (inodesOf(dir) ?? made) - IN_FLIGHT
    if (gone <= 0) return false
    this.#words[at + WORD.made] = made - gone
    Atomics.sub(this.#words, at + WORD.counted, gone)
    return true
  }

  #locked<T>(container: number, action: (at: number) => T): T {
    const at = container * WORDS
    return this.#locks.during(at + WORD.lock, () => action(at))
  }
}
