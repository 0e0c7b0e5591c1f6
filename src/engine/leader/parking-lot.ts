import { CACHE_LINE, struct, waitWhile, wake } from '../../shared/words.ts'
import { THREADS } from './thread-activity.ts'

/** The seats lie in cache lines of their own. */
const [WORD, WORDS] = struct({ parked: CACHE_LINE, seats: THREADS })
export const PARKING_WORDS = WORDS

/**
 * The state of a seat. left: its thread was woken, and has not gone yet.
 *
 *   empty -> taken   ParkingLot.sit()
 *   taken -> left    ParkingLot.wakeOne(), ParkingLot.wakeAll()
 *   taken -> left    ParkingLot.sit(): the thread is wanted before it sleeps
 *   left -> empty    ParkingLot.sit(), as its thread goes
 */
const STATE = { empty: 0, taken: 1, left: 2 } as const

/**
 * Threads without work park here, each on a seat of its own: the oldest one is woken first. So the same few threads
 * work, each with warm caches on its last processor. V8 compiles the code of each thread anew: while more of them took
 * turns, a busy engine took twice as long to become fast.
 *
 * Invariant: any thread may call everything. `parked` counts the seats that are taken; the thread that changes a seat
 * from taken to left subtracts it, so it is subtracted once.
 */
export class ParkingLot {
  readonly #words: Int32Array

  /** @param words PARKING_WORDS that all threads share */
  constructor(words: Int32Array) {
    this.#words = words
  }

  get parked(): number {
    return Atomics.load(this.#words, WORD.parked)
  }

  /**
   * Blocks until woken.
   *
   * @param age how many threads are older
   * @param isWanted asked when other threads can already see the seat: if true, this thread does not block
   */
  sit(age: number, isWanted: () => boolean): void {
    const seat = WORD.seats + age
    Atomics.add(this.#words, WORD.parked, 1)
    Atomics.store(this.#words, seat, STATE.taken)
    if (!isWanted() || !this.#leave(seat)) waitWhile(this.#words, seat, STATE.taken)
    Atomics.store(this.#words, seat, STATE.empty)
  }

  wakeOne(): void {
    for (let seat: number = WORD.seats; this.parked > 0 && seat < WORDS; seat++) if (this.#wake(seat)) return
  }

  wakeAll(): void {
    for (let seat: number = WORD.seats; seat < WORDS; seat++) this.#wake(seat)
  }

  /**
   * @returns whether a thread was woken there
   */
  #wake(seat: number): boolean {
    if (!this.#leave(seat)) return false
    wake(this.#words, seat)
    return true
  }

  #leave(seat: number): boolean {
    if (Atomics.compareExchange(this.#words, seat, STATE.taken, STATE.left) !== STATE.taken) return false
    Atomics.sub(this.#words, WORD.parked, 1)
    return true
  }
}
