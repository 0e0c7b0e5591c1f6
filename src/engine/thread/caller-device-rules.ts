import type { TypedDev } from '../../abi/brand.ts'
import type { DeviceRulesServices } from '../../caller/caller.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { CallerTask } from '../../caller/task/caller-task.ts'
import type { DeviceRules } from '../../calls/caller.ts'
import { now } from '../../kernel/clock.ts'
import type { RateLimit } from '../../shared/rate-limit.ts'
import { OneShot, sleepSync } from '../../shared/words.ts'
import { type DeviceRulesCache, decodeRules, HANDOVER, RulesKeys } from '../facts/device-rules-cache.ts'
import type { FromThread } from './thread-messages.ts'

/**
 * How long we assume that a task that was allowed everything is still in the same groups. With ten hierarchies the
 * kernel takes 7 us to read them, an eighth of a whole call. The kernel does not reuse the task's number so soon: it
 * gives all other numbers first.
 */
const LATELY_MS = 10
const ALLOWED: DeviceRules = { mknod: true, open: true, full: true }

interface DeviceRulesDependencies {
  readonly cache: DeviceRulesCache
  readonly pace: RateLimit
  readonly seed: Uint8Array
  readonly post: (message: FromThread) => void
  /** Called before the thread waits. */
  readonly mayBlock: () => void
}

/** The question what the rules of some groups allow for a device. */
interface Question {
  readonly container: number
  readonly dev: TypedDev
  readonly callerTask: CallerTask
  readonly key: Buffer
  readonly groups: () => string
}

/**
 * Answers what device rules allow. If no thread has asked recently, the main thread finds out with a process in the
 * groups: see `DeviceProbes`.
 *
 * Invariant: an object belongs to one thread, which alone calls it; `cache`, `pace` and `seed` are shared.
 */
export class CallerDeviceRules implements DeviceRulesServices {
  readonly #dependencies: DeviceRulesDependencies
  readonly #keys: RulesKeys
  /** The last task that was allowed everything, for which device, and until when that counts. */
  readonly #last = { serial: 0, tid: 0, dev: 0, until: 0 }

  constructor(dependencies: DeviceRulesDependencies) {
    this.#dependencies = dependencies
    this.#keys = new RulesKeys(dependencies.seed)
  }

  ofCaller(container: Container, dev: TypedDev, callerTask: CallerTask): DeviceRules | undefined {
    const [last, time] = [this.#last, now()]
    const isLast = last.tid === callerTask.tid && last.dev === dev && last.serial === container.serial
    if (isLast && time < last.until) return ALLOWED
    const rules = decodeRules(this.#known(this.#ofCaller(container, dev, callerTask)))
    if (rules?.mknod && rules.full) {
      last.serial = container.serial
      last.tid = callerTask.tid
      last.dev = dev
      last.until = time + LATELY_MS
    }
    return rules
  }

  ofHandover({ index }: Container, dev: TypedDev, callerTask: CallerTask): DeviceRules | undefined {
    const key = this.#keys.keyOf(dev, HANDOVER.length)
    return decodeRules(this.#known({ container: index, dev, callerTask, key, groups: () => HANDOVER }))
  }

  #ofCaller({ index }: Container, dev: TypedDev, callerTask: CallerTask): Question {
    const { text } = this.#keys
    const length = callerTask.cgroups(text)
    const key = this.#keys.keyOf(dev, length)
    return { container: index, dev, callerTask, key, groups: () => text.toString('latin1', 0, length) }
  }

  /** The word of the answer. */
  #known(question: Question): number {
    return this.#dependencies.cache.get(question.container, question.key) || this.#find(question)
  }

  /**
   * A container could make its calls ask about one group after the other. Then those calls wait, and its other calls
   * too.
   */
  #find(question: Question): number {
    const { cache, pace, post, mayBlock } = this.#dependencies
    const { container, dev, callerTask, key } = question
    const groups = question.groups()
    mayBlock()
    const requireSameTask = callerTask.hold()
    const wait = pace.take(container, 1)
    if (wait > 0) {
      sleepSync(wait)
      requireSameTask()
    }
    const answer = new OneShot()
    post({ type: 'device', container, tid: callerTask.tid, dev, groups, answer: answer.buffer })
    const word = answer.wait()!
    requireSameTask()
    cache.set(container, key, word)
    return word
  }
}
