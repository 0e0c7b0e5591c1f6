import type { Dev } from '../../abi/brand.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { CallerTask } from '../../caller/task/caller-task.ts'
import type { DeviceRulesServices } from '../../caller/thread-context.ts'
import { now } from '../../kernel/clock.ts'
import { OneShot } from '../../shared/one-shot.ts'
import type { RateLimit } from '../../shared/rate-limit.ts'
import { sleepSync } from '../../shared/sleep.ts'
import { type DeviceRulesCache, decodeRules } from '../facts/device-rules-cache.ts'
import type { DeviceRules, GroupsToJoin } from '../facts/probe-device-rules.ts'
import { RulesKeys } from '../facts/rules-key.ts'
import type { FromThread } from './thread-messages.ts'

/**
 * How long a task that was allowed everything is taken to be in the same groups: to read them takes the kernel 7 us
 * where there are ten hierarchies, an eighth of a whole call. Its number is not given to another task so soon, for the
 * kernel gives all other numbers before.
 */
const LATELY_MS = 10
const ALLOWED: DeviceRules = { mknod: true, open: true }

interface Parts {
  readonly cache: DeviceRulesCache
  readonly pace: RateLimit
  readonly seed: Uint8Array
  readonly post: (message: FromThread) => void
  /** Called before it waits. */
  readonly mayBlock: () => void
}

/** What is asked: what the rules of some groups allow for a device. */
interface Question {
  readonly container: number
  readonly dev: Dev
  readonly callerTask: CallerTask
  readonly key: Buffer
  readonly groups: () => GroupsToJoin
}

/**
 * Knows what device rules allow. What no thread has asked lately, the main thread finds out by a process in the groups:
 * see `DeviceProbes`.
 *
 * Invariant: an object belongs to one thread, which alone calls it; `cache`, `pace` and `seed` are shared.
 */
export class CallerDeviceRules implements DeviceRulesServices {
  readonly #parts: Parts
  readonly #keys: RulesKeys
  /** The task that was allowed everything last, for which device, and until when that counts. */
  readonly #last = { serial: 0, tid: 0, dev: 0, until: 0 }

  constructor(parts: Parts) {
    this.#parts = parts
    this.#keys = new RulesKeys(parts.seed)
  }

  ofCaller(container: Container, dev: Dev, callerTask: CallerTask): DeviceRules | undefined {
    const [last, time] = [this.#last, now()]
    const isLast = last.tid === callerTask.tid && last.dev === dev && last.serial === container.serial
    if (isLast && time < last.until) return ALLOWED
    const rules = decodeRules(this.#known(this.#ofCaller(container, dev, callerTask)))
    if (rules?.mknod && rules.open) {
      last.serial = container.serial
      last.tid = callerTask.tid
      last.dev = dev
      last.until = time + LATELY_MS
    }
    return rules
  }

  #ofCaller({ index }: Container, dev: Dev, callerTask: CallerTask): Question {
    const { text } = this.#keys
    const length = callerTask.cgroups(text)
    const key = this.#keys.of(dev, length)
    return { container: index, dev, callerTask, key, groups: () => text.toString('latin1', 0, length) }
  }

  /** The word of the answer. */
  #known(question: Question): number {
    return this.#parts.cache.get(question.container, question.key) || this.#find(question)
  }

  /**
   * A container could have its calls ask about one group after the other: then they wait, and its other calls with
   * them.
   */
  #find(question: Question): number {
    const { cache, pace, post, mayBlock } = this.#parts
    const { container, dev, callerTask, key } = question
    const groups = question.groups()
    mayBlock()
    const mustBeIt = callerTask.hold()
    const wait = pace.take(container, 1)
    if (wait > 0) {
      sleepSync(wait)
      mustBeIt()
    }
    const answer = new OneShot()
    post({ type: 'device', container, tid: callerTask.tid, dev, groups, isFresh: false, answer: answer.buffer })
    const word = answer.wait()!
    mustBeIt()
    cache.set(container, key, word)
    return word
  }
}
