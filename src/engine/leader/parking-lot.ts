/** As many as there can be threads. */
const SEATS = 512
const PARKED = 0
/** In a cache line of their own. */
const FIRST = 16
export const PARKING_WORDS = FIRST + SEATS

/** What a seat is; `left` until the thread that was woken has gone. */
const EMPTY = 0
const TAKEN = 1
const LEFT = 2

/**
 * Where threads park that have nothing to do. The lowest seat is taken first and woken first: so the same few threads work,
 * each with warm caches on the processor where it worked before. When all were woken in turn they met on one processor while
 * the other one was idle for a third of the time.
 */
export class ParkingLot {
  readonly #words: Int32Array

  /** @param words SEAT_WORDS that all threads share */
  constructor(words: Int32Array) {
    this.#words = words
  }

  get parked(): number {
    return Atomics.load(this.#words, PARKED)
  }

  /** Blocks until woken. @param isWanted asked when whoever wakes can see the seat: then it does not block */
  sit(isWanted: () => boolean): void {
    Atomics.add(this.#words, PARKED, 1)
    let seat = FIRST
    while (Atomics.compareExchange(this.#words, seat, EMPTY, TAKEN) !== EMPTY) seat++
    if (!isWanted() || !this.#leave(seat)) Atomics.wait(this.#words, seat, TAKEN)
    Atomics.store(this.#words, seat, EMPTY)
  }

  wakeOne(): void {
    for (let seat = FIRST; this.parked > 0 && seat < PARKING_WORDS; seat++) if (this.#wake(seat)) return
  }

  wakeAll(): void {
    for (let seat = FIRST; seat < PARKING_WORDS; seat++) this.#wake(seat)
  }

  /** @returns whether a thread sat there */
  #wake(seat: number): boolean {
    if (!this.#leave(seat)) return false
    Atomics.notify(this.#words, seat)
    return true
  }

  #leave(seat: number): boolean {
    if (Atomics.compareExchange(this.#words, seat, TAKEN, LEFT) !== TAKEN) return false
    Atomics.sub(this.#words, PARKED, 1)
    return true
  }
}
