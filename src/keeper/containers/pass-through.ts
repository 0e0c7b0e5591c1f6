import type { Errno, Tid } from '../../abi/brand.ts'
import { errno } from '../../abi/errno.ts'
import { NOTIF } from '../../abi/seccomp.ts'
import { POLLHUP, POLLIN } from '../../abi/socket.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { CallRecord } from '../../calls/record.ts'
import { type Fd, poll } from '../../kernel/fd.ts'
import { notifRecv } from '../../kernel/seccomp.ts'
import { shutdown } from '../../kernel/socket.ts'
import { Answer } from '../../link/answer.ts'
import { SLOT, type Slots, STATE } from '../../link/journal.ts'
import { CountWriter } from '../../memories/count-writer.ts'
import { RecordWriter } from '../../memories/records.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import { needsJudge } from '../../syscalls/bpf-token.ts'
import type { Reactor } from '../process/reactor.ts'
import type { HeldListener } from './registry.ts'

/** Where calls are recorded and counted. */
interface CallMemories {
  readonly ring: ArrayBuffer
  /** Called when the ring is half full. */
  readonly halfFull: () => void
  readonly counts: ArrayBuffer
  /** How much of the arguments is recorded. */
  readonly mode: ArgumentMode | undefined
}

/**
 * Answers calls with _continue_ while no engine is started because engines fail all the time. The kernel then judges
 * each caller with the caller's own rights: containers get no help, but they go on.
 */
export class PassThrough {
  readonly #reactor: Reactor
  readonly #slots: Slots
  readonly #answer: Answer
  /** An engine records and counts all other calls. */
  readonly #records: RecordWriter
  readonly #counts: CountWriter
  readonly #hasArguments: boolean
  readonly #gone: (listener: number) => void
  readonly #unwatch = new Map<number, () => void>()

  /** @param gone is called when the last task of a listener has ended */
  constructor(
    reactor: Reactor,
    slots: Slots,
    { ring, halfFull, counts, mode = 'all' }: CallMemories,
    gone: (listener: number) => void,
  ) {
    this.#reactor = reactor
    this.#slots = slots
    this.#answer = new Answer(slots.view)
    this.#records = new RecordWriter(ring, halfFull)
    this.#counts = new CountWriter(counts)
    this.#hasArguments = mode !== 'none'
    this.#gone = gone
  }

  /**
   * Answers the calls that the last engine left, then new calls. LXC's monitors get no reply and answer their calls
   * themselves, with ENOSYS.
   */
  start(listeners: Iterable<[number, HeldListener]>): void {
    const all = new Map(listeners)
    for (const slot of this.#slots.all()) this.#settle(slot, all)
    for (const [number, held] of all) this.serve(number, held)
  }

  serve(number: number, { fd, type, entry }: HeldListener): void {
    if (type === 'monitor') {
      // It would wait for half a minute for our answer. With its next call it connects again.
      shutdown(fd)
      return
    }
    const origin = { listener: number, container: entry.container.index, thread: 0 }
    const pass = (): void => {
      const events = poll(fd.raw, POLLIN, 0)
      if ((events & POLLHUP) !== 0) this.#end(number)
      // The poll that woke us may have been interrupted, and receiving from a listener without a call blocks.
      else if ((events & POLLIN) !== 0) this.#pass(fd, origin, entry.container)
    }
    this.#unwatch.set(number, this.#reactor.watch(fd, pass))
  }

  #pass(fd: Fd, origin: Parameters<Slots['take']>[0], container: Container): void {
    const slot = this.#slots.take(origin)
    if (slot < 0) return
    if (notifRecv(fd.raw, this.#slots.notification(slot))) this.#continue(fd.raw, slot, container)
    this.#slots.setState(slot, STATE.free)
  }

  #continue(listener: number, slot: number, whole: Container): void {
    const { view, words } = this.#slots
    const { index: container, serial } = whole
    const refused = needsJudge(whole, view, slot) ? errno('EPERM') : 0
    const delivered =
      refused === 0 ? this.#answer.continue(listener, slot) : this.#answer.errno(listener, slot, refused)
    const verdict = refused === 0 ? 'continue' : 'errno'
    const record: CallRecord = {
      ...{ container, serial, verdict: delivered ? verdict : 'gone', errno: refused, reason: 'noEngine', a: 0, b: 0 },
      ...{ microseconds: 0, time: Date.now() },
      nr: view.getInt32(slot + NOTIF.nr, true),
      arch: view.getUint32(slot + NOTIF.arch, true),
      tid: view.getUint32(slot + NOTIF.tid, true) as Tid,
    }
    const registers = this.#hasArguments ? words : undefined
    const args = { registers, from: (slot + NOTIF.args) >> 2, texts: { bytes: new Uint8Array(), length: 0 } }
    this.#records.write(record, args)
    this.#counts.count(record, args)
  }

  stop(): void {
    for (const unwatch of this.#unwatch.values()) unwatch()
    this.#unwatch.clear()
  }

  #end(number: number): void {
    this.#unwatch.get(number)?.()
    this.#unwatch.delete(number)
    this.#gone(number)
  }

  /** Answers a call of the last engine. The kernel must not judge a call whose act was begun: it fails with EIO. */
  #settle(slot: number, listeners: ReadonlyMap<number, HeldListener>): void {
    const { view } = this.#slots
    const state = this.#slots.state(slot)
    if (state === STATE.free) return
    const held = listeners.get(view.getUint32(slot + SLOT.listener, true))
    if (held?.type === 'listener') this.#send(held, slot, state)
    this.#slots.setState(slot, STATE.free)
  }

  #send({ fd: { raw: listener }, entry }: HeldListener, slot: number, state: number): void {
    const { view } = this.#slots
    if (!this.#answer.waits(listener, slot)) return
    const number = view.getUint32(slot + SLOT.errno, true) as Errno | 0
    if (state === STATE.acting) this.#answer.errno(listener, slot, errno('EIO'))
    else if (state !== STATE.acted) this.#continue(listener, slot, entry.container)
    else if (number !== 0) this.#answer.errno(listener, slot, number)
    else this.#answer.value(listener, slot, view.getBigInt64(slot + SLOT.value, true))
  }
}
