import type { Tid } from '../../abi/brand.ts'
import { NOTIF } from '../../abi/seccomp.ts'
import type { NotifiedCaller } from '../../caller/caller.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { SleepState } from '../../caller/task/sleep-state.ts'
import type { Act, Effect, Mark, Replayable, Verb } from '../../calls/act.ts'
import { why } from '../../calls/reasons.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { now } from '../../kernel/clock.ts'
import { SyscallError } from '../../kernel/error.ts'
import { sleepSync } from '../../shared/words.ts'
import { verbs } from '../../verbs/index.ts'
import type { CachedReply, ReplyCache } from './reply-cache.ts'

/**
 * The number of looks without a pause: most callers have left by then, and handing over the lead costs more than a
 * look.
 */
const LOOKS = 4
/** Each pause is twice the previous one: a caller that waits long for a processor must not use ours. */
const FIRST_MS = 0.02
const LONGEST_MS = 10

/**
 * Looks until the caller sleeps, for up to `ms` milliseconds.
 *
 * @param mayBlock called before the first pause
 * @returns gone: its call no longer waits; awake: it did not sleep in that time
 */
export function waitUntilAsleep<T>(
  waits: () => boolean,
  ms: number,
  mayBlock: () => void,
  look: () => T | undefined,
): T | 'gone' | 'awake' {
  const end = now() + ms
  for (let looks = 1; ; looks++) {
    const seen = look()
    if (!waits()) return 'gone'
    if (seen !== undefined) return seen
    if (now() > end) return 'awake'
    if (looks < LOOKS) continue
    if (looks === LOOKS) mayBlock()
    sleepSync(Math.min(FIRST_MS * 2 ** (looks - LOOKS), LONGEST_MS))
  }
}

/** How long a caller that a signal has woken may take to leave the kernel; it needs a processor for that. */
const AWAKE_MS = 1000
/**
 * How long a caller that is awake just before we answer gets to leave. If it is still there after that, it has had no
 * processor yet, and takes the answer.
 */
const LEAVING_MS = 0.1

/** What a replay needs to know about a call. */
interface Interruptible {
  readonly container: Container
  /** The slot of the journal. */
  readonly slot: number
}

/**
 * Without SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV a signal cancels a call that is being served: the caller repeats it
 * from the same instruction, and the result of the first act stands in its way. The act is done again first. Only if
 * the kernel refuses it with an error that our own act explains, and the act's result is still there unchanged, the
 * call gets the first result.
 *
 * This is only about signals: `InheritedCalls` has the calls that an engine left when it ended.
 */
export class Replays {
  readonly #cache: ReplyCache
  readonly #slots: DataView
  readonly #mayBlock: () => void

  /** @param mayBlock called before a thread waits for a caller, or for another thread */
  constructor(cache: ReplyCache, slots: DataView, mayBlock: () => void) {
    this.#cache = cache
    this.#slots = slots
    this.#mayBlock = mayBlock
  }

  /**
   * Waits for the previous call of this caller, if that was cancelled and is still being served. To be called before
   * anything else is read.
   */
  await({ index, waitKillable }: Container, tid: Tid): void {
    if (!waitKillable) this.#cache.await(index, tid, this.#mayBlock)
  }

  /**
   * @returns undefined if the answer cannot get lost, or the act can be done twice
   */
  replayOf<A extends Act>(
    act: A,
    caller: NotifiedCaller,
    call: Interruptible,
    waits: () => boolean,
  ): Replay<A> | undefined {
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
    // From here on, a thread that serves the repeated call waits for this thread.
    if (!waits()) {
      this.#cache.end(container, place, key, false, undefined)
      this.#gone(container)
    }
    return new Replay({ cache: this.#cache, mayBlock: this.#mayBlock, once, act, sleep, waits, container, key, place })
  }

  /**
   * @returns undefined for an act on something that cannot be inspected: such a call cannot be recognised either
   */
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

/** Keeps a cancelled call in flight for a time, if many calls of its container are cancelled. */
function keepPlace(cache: ReplyCache, container: number, mayBlock: () => void): void {
  const ms = cache.cancelled(container)
  if (ms === 0) return
  mayBlock()
  sleepSync(ms)
}

interface ReplayContext<A> {
  readonly cache: ReplyCache
  readonly mayBlock: () => void
  readonly once: Replayable<A>
  readonly act: A
  readonly sleep: SleepState
  readonly waits: () => boolean
  readonly container: number
  readonly key: bigint
  readonly place: CachedReply
}

/** An act whose answer may get lost. */
export class Replay<A> {
  readonly #context: ReplayContext<A>
  #result: bigint | undefined

  constructor(context: ReplayContext<A>) {
    this.#context = context
  }

  /** Does the act, or finds that it is already done. @throws whatever the act throws */
  run(caller: NotifiedCaller, run: () => Effect): Effect {
    const { once, act } = this.#context
    const before = once.conflictErrno === undefined ? this.#replay(caller) : undefined
    if (before) return before
    try {
      const effect = run()
      this.#result = marked(effect.made ?? once.fingerprint(act, caller))
      return effect
    } catch (error) {
      const isConflict = error instanceof SyscallError && error.errno === once.conflictErrno
      const replayed = isConflict ? this.#replay(caller) : undefined
      if (replayed) return replayed
      throw error
    }
  }

  /**
   * Sends the answer. If a signal has woken the caller, the caller leaves although its call still waits, and the answer
   * is lost silently. So a caller that is awake first gets time to leave.
   *
   * @returns whether the answer was delivered
   */
  answer(send: () => boolean): boolean {
    const { cache, mayBlock, container, sleep, waits, key, place } = this.#context
    cache.answering(place)
    const delivered =
      waitUntilAsleep(waits, LEAVING_MS, mayBlock, () => sleep.isSound || undefined) !== 'gone' && send()
    cache.end(container, place, key, delivered, this.#result)
    if (!delivered) keepPlace(cache, container, mayBlock)
    return delivered
  }

  #replay(caller: NotifiedCaller): Effect | undefined {
    const { cache, mayBlock, container, once, act, key, place } = this.#context
    const result = cache.take(container, place, key, mayBlock)
    if (result === undefined || marked(once.fingerprint(act, caller)) !== result) return undefined
    this.#result = result
    return { value: 0n, why: why('adopted') }
  }
}

const marked = (marks: readonly Mark[] | undefined): bigint | undefined => marks && fingerprint(marks)

/**
 * A fingerprint of 64 bits, from two kinds of FNV-1a. A container that finds two things with the same fingerprint fools
 * only itself.
 */
function fingerprint(marks: readonly Mark[]): bigint {
  const [bytes, hash] = [Buffer.from(marks.map(spell).join('|'), 'latin1'), [0x811c9dc5, 0x050c5d1f]]
  for (const byte of bytes) {
    hash[0] = Math.imul(hash[0]! ^ byte, 0x01000193)
    hash[1] = Math.imul(hash[1]! ^ byte, 0x01000197)
  }
  return (BigInt(hash[1]! >>> 0) << 32n) | BigInt(hash[0]! >>> 0)
}

const spell = (mark: Mark): string => (typeof mark === 'object' ? Buffer.from(mark).toString('latin1') : String(mark))
