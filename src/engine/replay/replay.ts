import type { Tid } from '../../abi/brand.ts'
import { NOTIF } from '../../abi/seccomp.ts'
import type { NotifiedCaller } from '../../caller/caller.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { SleepState } from '../../caller/task/sleep-state.ts'
import type { Act, Effect, Mark, Replayable, Verb } from '../../calls/act.ts'
import { why } from '../../calls/reason.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { SyscallError } from '../../kernel/error.ts'
import { verbs } from '../../verbs/index.ts'
import type { CachedReply, ReplyCache } from './reply-cache.ts'
import { sleepMs, waitUntilAsleep } from './wait-asleep.ts'

/** A caller that was woken before it has an answer goes away, as soon as it gets a processor. */
const AWAKE_MS = 1000
/** With an answer it goes away only if it was on its way already: the answer arrives if it had not got a processor yet. */
const LEAVING_MS = 0.1

/** What an adoption needs of one call. */
interface Interruptible {
  readonly container: Container
  /** In the journal. */
  readonly slot: number
}

/**
 * Without SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV a signal cancels a call that is being served: it comes again, from the same
 * instruction, and what was done for it stands in its way. The act is done again first; only if the kernel refuses it for
 * what our own act explains, and that is still there unchanged, the call gets the result of the first time.
 */
export class Replays {
  readonly #cache: ReplyCache
  readonly #slots: DataView
  readonly #mayBlock: () => void

  /** @param mayBlock called before a thread waits for a caller, or for another thread */
  constructor(acts: ReplyCache, slots: DataView, mayBlock: () => void) {
    this.#cache = acts
    this.#slots = slots
    this.#mayBlock = mayBlock
  }

  /** Waits for the call before, if that was cancelled and is still being served. To be called before anything is looked at. */
  await({ index, waitKillable: lasting }: Container, tid: Tid): void {
    if (!lasting) this.#cache.await(index, tid, this.#mayBlock)
  }

  /** @returns undefined where the answer cannot get lost, or the act can be done twice */
  of<A extends Act>(act: A, caller: NotifiedCaller, call: Interruptible, waits: () => boolean): Replay<A> | undefined {
    if (call.container.waitKillable) return undefined
    const { once } = verbs[act.verb] as Verb<A>
    if (!once || once.isReplayable?.(act) === false) return undefined
    const { sleep } = caller
    const container = call.container.index
    const key = this.#key(once, act, sleep, call.slot, waits)
    if (key === 'gone') this.#gone(container)
    if (key === undefined) return undefined
    const place = this.#cache.begin(container, caller.tid, key)
    if (!place) return undefined
    // From here on, whoever serves the call that comes again waits for this one.
    if (!waits()) {
      this.#cache.end(container, place, key, false, undefined)
      this.#gone(container)
    }
    return new Replay({ acts: this.#cache, mayBlock: this.#mayBlock, once, act, sleep, waits, container, key, place })
  }

  /** @returns undefined for what cannot be looked at: it cannot be known again either */
  #key<A>(
    once: Replayable<A>,
    act: A,
    sleep: SleepState,
    slot: number,
    waits: () => boolean,
  ): bigint | 'gone' | undefined {
    try {
      const stamp = waitUntilAsleep(waits, AWAKE_MS, this.#mayBlock, () => (sleep.isSound ? sleep.stamp() : undefined))
      if (stamp === 'gone') return 'gone'
      if (stamp === 'awake') return undefined
      const call = new Uint8Array(this.#slots.buffer, slot + NOTIF.tid, NOTIF.args - NOTIF.tid)
      return fingerprint([call, stamp.born, stamp.stack, ...once.key(act)])
    } catch (error) {
      if (error instanceof SyscallError) return undefined
      throw error
    }
  }

  #gone(container: number): never {
    keepPlace(this.#cache, container, this.#mayBlock)
    throw new ContinueError('gone')
  }
}

/** A call was cancelled: it stays one of those in flight for a time, if there are many such. */
function keepPlace(acts: ReplyCache, container: number, mayBlock: () => void): void {
  const ms = acts.cancelled(container)
  if (ms === 0) return
  mayBlock()
  sleepMs(ms)
}

interface Parts<A> {
  readonly acts: ReplyCache
  readonly mayBlock: () => void
  readonly once: Replayable<A>
  readonly act: A
  readonly sleep: SleepState
  readonly waits: () => boolean
  readonly container: number
  readonly key: bigint
  readonly place: CachedReply
}

/** One act whose answer may get lost. */
export class Replay<A> {
  readonly #parts: Parts<A>
  #result: bigint | undefined

  constructor(parts: Parts<A>) {
    this.#parts = parts
  }

  /** Does the act, or finds it done. @throws whatever the act throws */
  run(caller: NotifiedCaller, run: () => Effect): Effect {
    const { once, act } = this.#parts
    const before = once.unrepeatedErrno === undefined ? this.#replay(caller) : undefined
    if (before) return before
    try {
      const effect = run()
      this.#result = marked(effect.made ?? once.fingerprint(act, caller))
      return effect
    } catch (error) {
      const isConflict = error instanceof SyscallError && error.errno === once.unrepeatedErrno
      const adopted = isConflict ? this.#replay(caller) : undefined
      if (adopted) return adopted
      throw error
    }
  }

  /**
   * Sends the answer. It gets lost without a sign if a signal has woken the caller, which was on its way but still waited: so
   * one that is awake gets the time to leave. @returns whether it was delivered
   */
  answer(send: () => boolean): boolean {
    const { acts, mayBlock, container, sleep, waits, key, place } = this.#parts
    acts.answering(place)
    const delivered =
      waitUntilAsleep(waits, LEAVING_MS, mayBlock, () => sleep.isSound || undefined) !== 'gone' && send()
    acts.end(container, place, key, delivered, this.#result)
    if (!delivered) keepPlace(acts, container, mayBlock)
    return delivered
  }

  #replay(caller: NotifiedCaller): Effect | undefined {
    const { acts, mayBlock, container, once, act, key, place } = this.#parts
    const result = acts.take(container, place, key, mayBlock)
    if (result === undefined || marked(once.fingerprint(act, caller)) !== result) return undefined
    this.#result = result
    return { value: 0n, why: why('adopted') }
  }
}

const marked = (marks: readonly Mark[] | undefined): bigint | undefined => marks && fingerprint(marks)

/** 64 bits, of two kinds of FNV-1a: whoever finds two things with the same one has fooled only itself. */
function fingerprint(marks: readonly Mark[]): bigint {
  const [bytes, hash] = [Buffer.from(marks.map(spell).join('|'), 'latin1'), [0x811c9dc5, 0x050c5d1f]]
  for (const byte of bytes) {
    hash[0] = Math.imul(hash[0]! ^ byte, 0x01000193)
    hash[1] = Math.imul(hash[1]! ^ byte, 0x01000197)
  }
  return (BigInt(hash[1]! >>> 0) << 32n) | BigInt(hash[0]! >>> 0)
}

const spell = (mark: Mark): string => (typeof mark === 'object' ? Buffer.from(mark).toString('latin1') : String(mark))
