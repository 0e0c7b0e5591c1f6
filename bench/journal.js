// What the journal costs: all that is written of one call from its receipt to its answer, in the memory that survives.

import { map, memfd } from '../out/kernel/shared-memory.js'
import { JOURNAL_SIZE, Slots, STATE } from '../out/link/journal.js'

const CALLS = 200_000
const ROUNDS = 9

/** @returns {number} microseconds a call, the median of several rounds */
export function journalCost() {
  const slots = new Slots(map(memfd('intercede-bench', JOURNAL_SIZE)))
  const origin = { listener: 1, container: 1, thread: 1 }
  const round = () => {
    const start = performance.now()
    for (let call = 0; call < CALLS; call++) {
      const slot = slots.take(origin)
      slots.receive(slot)
      slots.setState(slot, STATE.acting)
      slots.settle(slot, 0n, 0)
      slots.setState(slot, STATE.free)
    }
    return (1000 * (performance.now() - start)) / CALLS
  }
  const took = Array.from({ length: ROUNDS }, round).sort((a, b) => a - b)
  return took[ROUNDS >> 1]
}
