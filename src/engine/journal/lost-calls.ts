import { NOTIF, SECCOMP_NOTIF_RESP_SIZE, SECCOMP_USER_NOTIF_FLAG_CONTINUE } from '../../abi/seccomp.ts'
import { SLOT, STATE } from '../../calls/slot.ts'
import { notifIdValid, notifSend } from '../../kernel/seccomp.ts'
import type { Slots } from './slots.ts'

/** How far the id of a lost call may be from the ids of known calls: more than the number of threads. */
const AROUND = 128n
/** How many ids of one listener are tried at most: each costs an ioctl. */
const LIMIT = 8192n

/**
 * Finds received calls that are in no slot, and continues them: nothing was done for them. The kernel itself writes
 * each notification into its slot, so there should be no such call. But a caller without an answer would wait for ever.
 * The ids of a listener's calls are consecutive, and only ids of received, unanswered calls are valid.
 *
 * @param index the keeper's number of the listener
 * @param listener its descriptor, from which no thread receives meanwhile
 * @returns the number of calls that were continued
 */
export function continueLostCalls(slots: Slots, index: number, listener: number): number {
  const { view } = slots
  const own = slots.all().filter((slot) => view.getUint32(slot + SLOT.listener, true) === index)
  const ids = own.map((slot) => view.getBigUint64(slot + NOTIF.id, true)).filter((id) => id !== 0n)
  const waiting = own.filter((slot) => slots.state(slot) !== STATE.free)
  const known = new Set(waiting.map((slot) => view.getBigUint64(slot + NOTIF.id, true)))
  return range(ids).filter((id) => !known.has(id) && pass(listener, id)).length
}

/** Returns the ids to try: around the known ids, and at most the newest `LIMIT` if they are further apart. */
function range(ids: readonly bigint[]): bigint[] {
  if (ids.length === 0) return []
  const sorted = [...ids].sort((a, b) => (a < b ? -1 : 1))
  const [oldest, newest] = [sorted[0]!, sorted.at(-1)!]
  const first = newest - oldest < LIMIT ? oldest - AROUND : newest - LIMIT
  return Array.from({ length: Number(newest + AROUND - first) }, (_, step) => BigInt.asUintN(64, first + BigInt(step)))
}

/** Continues the call `id`. @returns whether the call was still waiting */
function pass(listener: number, id: bigint): boolean {
  const response = new Uint8Array(SECCOMP_NOTIF_RESP_SIZE)
  const view = new DataView(response.buffer)
  view.setBigUint64(0, id, true)
  view.setUint32(20, SECCOMP_USER_NOTIF_FLAG_CONTINUE, true)
  return notifIdValid(listener, response) && notifSend(listener, response)
}
