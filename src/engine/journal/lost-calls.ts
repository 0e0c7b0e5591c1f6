import { NOTIF, SECCOMP_NOTIF_RESP_SIZE, SECCOMP_USER_NOTIF_FLAG_CONTINUE } from '../../abi/seccomp.ts'
import { SLOT, STATE } from '../../calls/slot.ts'
import { notifIdValid, notifSend } from '../../kernel/seccomp.ts'
import type { Slots } from './slots.ts'

/** How far from the calls that are known one may lie that is not: more than there are threads. */
const AROUND = 128n
/** Of one listener: the kernel is asked for each. */
const LIMIT = 8192n

/**
 * Finds calls that were received and stand in no slot, and leaves them to the kernel: nothing was done for them. The
 * notification is written into its slot by the kernel itself, so there should be none; but a caller that nobody answers
 * would wait for ever. The ids of a listener are consecutive, and only those that were received are valid.
 *
 * @param index the keeper's number of the listener
 * @param listener its descriptor, from which nothing is being received
 * @returns how many there were
 */
export function continueLostCalls(slots: Slots, index: number, listener: number): number {
  const { view } = slots
  const own = slots.all().filter((slot) => view.getUint32(slot + SLOT.listener, true) === index)
  const ids = own.map((slot) => view.getBigUint64(slot + NOTIF.id, true)).filter((id) => id !== 0n)
  const waiting = own.filter((slot) => slots.state(slot) !== STATE.free)
  const known = new Set(waiting.map((slot) => view.getBigUint64(slot + NOTIF.id, true)))
  return range(ids).filter((id) => !known.has(id) && pass(listener, id)).length
}

/** The newest, and those before it. */
function range(ids: readonly bigint[]): bigint[] {
  if (ids.length === 0) return []
  const sorted = [...ids].sort((a, b) => (a < b ? -1 : 1))
  const [oldest, newest] = [sorted[0]!, sorted.at(-1)!]
  const first = newest - oldest < LIMIT ? oldest - AROUND : newest - LIMIT
  return Array.from({ length: Number(newest + AROUND - first) }, (_, step) => BigInt.asUintN(64, first + BigInt(step)))
}

/** @returns whether it waited */
function pass(listener: number, id: bigint): boolean {
  const response = new Uint8Array(SECCOMP_NOTIF_RESP_SIZE)
  const view = new DataView(response.buffer)
  view.setBigUint64(0, id, true)
  view.setUint32(20, SECCOMP_USER_NOTIF_FLAG_CONTINUE, true)
  return notifIdValid(listener, response) && notifSend(listener, response)
}
