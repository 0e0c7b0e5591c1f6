import { SECCOMP_NOTIF_SIZE } from '../../abi/seccomp.ts'
import { SLOT, SLOTS, STATE } from '../../calls/slot.ts'
import { SHAPE } from './layout.ts'
import type { Slots } from './slots.ts'

const WORDS = 6
/** More attempts than any limit allows, so that no engine tries the call again. */
const GIVEN_UP = 0xffff

/**
 * Copies the calls in flight from a journal of another layout into ours. A call whose act had not begun is served. Of a
 * begun act we only know that the kernel must not run the call again, so we give up the call.
 *
 * @returns the number of calls; undefined if the header of `foreign` does not say where its slots are
 */
export function importCalls(foreign: ArrayBuffer, slots: Slots): number | undefined {
  const [at = 0, size = 0, count = 0, state = 0, listener = 0, container = 0] = new Int32Array(
    foreign,
    SHAPE * 4,
    WORDS,
  )
  const last = Math.max(SECCOMP_NOTIF_SIZE, state + 4, listener + 4, container + 4)
  if (at <= 0 || count <= 0 || size < last || at + count * size > foreign.byteLength) return undefined
  const view = new DataView(foreign)
  const all = Array.from({ length: count }, (_, index) => at + index * size)
  const open = all.filter((slot) => view.getInt32(slot + state, true) !== STATE.free).slice(0, SLOTS)
  for (const slot of open) {
    const number = (offset: number): number => view.getUint32(slot + offset, true)
    const origin = { listener: number(listener), container: number(container), thread: 0 }
    const free = slots.take(origin)
    const taken = free < 0 ? slots.takeLast(origin) : free
    slots.notification(taken).set(new Uint8Array(foreign, slot, SECCOMP_NOTIF_SIZE))
    const begun = !NOT_BEGUN.has(number(state))
    slots.view.setUint32(taken + SLOT.attempts, begun ? GIVEN_UP : 0, true)
    slots.setState(taken, begun ? STATE.acting : number(state))
  }
  return open.length
}

const NOT_BEGUN: ReadonlySet<number> = new Set([STATE.received, STATE.receiving])
