import { hash } from 'node:crypto'
import { readlinkSync } from 'node:fs'
import type { Dev } from '../../abi/brand.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { CallerTask } from '../../caller/task/caller-task.ts'
import type { DeviceRulesServices } from '../../caller/thread-context.ts'
import { now } from '../../kernel/clock.ts'
import { type DeviceRulesCache, decodeRules, isOpen, staying, stays } from '../facts/device-rules-cache.ts'
import type { DeviceRules, GroupsToJoin } from '../facts/probe-device-rules.ts'
import type { ProbePace } from '../facts/probe-pace.ts'
import { sleepMs } from '../replay/wait-asleep.ts'
import type { FromThread } from './thread-messages.ts'

/** Of a key of the cache: random and the same for all threads, so that no container can choose groups with the same key. */
export const SEED_BYTES = 16
const DEV_AT = SEED_BYTES
const TEXT_AT = DEV_AT + 4
/** A line for each hierarchy, of up to 4 KiB. */
const TEXT_LIMIT = 64 * 1024
/**
 * To read where a task is takes the kernel 7 us where there are ten hierarchies, an eighth of a whole call. Who was allowed
 * everything so lately is taken to be where it was: its number is not given to another task so soon, for the numbers must go
 * round before.
 */
const LATELY_MS = 10
const ALLOWED: DeviceRules = { mknod: true, open: true }
/** No line of `/proc/TID/cgroup`. */
const HOME = Buffer.from('home')

interface Parts {
  readonly cache: DeviceRulesCache
  readonly pace: ProbePace
  readonly seed: Uint8Array
  readonly post: (message: FromThread) => void
  /** Called before it waits. */
  readonly mayBlock: () => void
}

/** What may be allowed for a device in some groups. */
interface Question {
  readonly container: number
  readonly dev: Dev
  readonly callerTask: CallerTask
  readonly key: Buffer
  readonly groups: () => GroupsToJoin
}

/** Knows what device rules allow; what nobody has asked lately the main thread finds out, by a process that joins the groups. */
export class CallerDeviceRules implements DeviceRulesServices {
  readonly #parts: Parts
  readonly #room = Buffer.alloc(TEXT_AT + TEXT_LIMIT)
  /** Who was allowed everything last, for which device, and until when that is lately. */
  readonly #last = { serial: 0, tid: 0, dev: 0, until: 0 }

  constructor(parts: Parts) {
    this.#parts = parts
    this.#room.set(parts.seed)
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

  closed(container: Container, dev: Dev, callerTask: CallerTask, bar: () => boolean): boolean | undefined {
    const home = pathsOf(container)
    if (home.length === 0) return false
    const inHome = { container: container.index, dev, callerTask, key: this.#key(dev, HOME), groups: () => home }
    // The caller's group may lie elsewhere, or have been asked before the bar was there.
    return this.#closed(inHome, bar) && this.#closed(this.#ofCaller(container, dev, callerTask), () => true)
  }

  #closed(question: Question, bar: () => boolean): boolean | undefined {
    let word = this.#known(question)
    if (isOpen(word) && !stays(word)) {
      if (bar()) word = this.#find(question)
      if (isOpen(word)) this.#parts.cache.set(question.container, question.key, staying(word))
    }
    return decodeRules(word) && !isOpen(word)
  }

  #ofCaller({ index }: Container, dev: Dev, callerTask: CallerTask): Question {
    const text = this.#room.subarray(TEXT_AT)
    const length = callerTask.cgroups(text)
    const key = this.#key(dev, length)
    return { container: index, dev, callerTask, key, groups: () => text.toString('latin1', 0, length) }
  }

  /** @param text in the room already, so long; or what becomes it */
  #key(dev: Dev, text: Buffer | number): Buffer {
    const room = this.#room
    room.writeUInt32LE(dev, DEV_AT)
    const length = typeof text === 'number' ? text : text.copy(room, TEXT_AT)
    return hash('sha256', room.subarray(0, TEXT_AT + length), 'buffer')
  }

  /** The word of the answer. */
  #known(question: Question): number {
    return this.#parts.cache.get(question.container, question.key) || this.#find(question)
  }

  /** A container could have its calls ask about one group after the other: they wait then, and others of it with them. */
  #find(question: Question): number {
    const { cache, pace, post, mayBlock } = this.#parts
    const { container, dev, callerTask, key } = question
    const groups = question.groups()
    mayBlock()
    const mustBeIt = callerTask.hold()
    const wait = pace.wait(container)
    if (wait > 0) {
      sleepMs(wait)
      mustBeIt()
    }
    const answer = new Int32Array(new SharedArrayBuffer(4))
    post({ type: 'device', tid: callerTask.tid, dev, groups, answer: answer.buffer })
    Atomics.wait(answer, 0, 0)
    mustBeIt()
    cache.set(container, key, answer[0]!)
    return answer[0]!
  }
}

/** The groups in which the init of a container was put, as far as they are not ours too. */
function pathsOf({ handles }: Container): readonly string[] {
  const fds = [handles?.cgroup, handles?.devices].filter((fd) => fd !== undefined)
  return fds.map((fd) => readlinkSync(`/proc/self/fd/${fd}`, 'latin1'))
}
