// Processes and threads in and around a container, and their scheduling: for tests of sched_setscheduler(2).

import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import { Conversation } from '../differential/conversation.ts'
import { fixture } from './fixtures.ts'

/** How a task is scheduled. */
export interface Scheduled {
  readonly policy: number
  readonly nice: number
  readonly priority: number
  readonly flags: number
}

const talk = (child: ChildProcess): Conversation =>
  new Conversation('the world of sched', child.stdin as Writable, child.stdout as Readable)

/** Sets and reads how tasks of the host are scheduled, by a program that shares nothing with what is tested. */
export class Look {
  readonly #child = spawn(fixture('sched-world'), ['--look'], { stdio: ['pipe', 'pipe', 'inherit'] })
  readonly #conversation = talk(this.#child)

  async set(tid: number, { policy, nice, priority, flags }: Scheduled): Promise<void> {
    const [said] = await this.#conversation.ask(`set ${tid} ${policy} ${nice} ${priority} ${flags}\n`)
    if (said !== 'ok') throw new Error(`Cannot prepare task ${tid}: ${said}`)
  }

  async get(tid: number): Promise<Scheduled> {
    const [said = ''] = await this.#conversation.ask(`get ${tid}\n`)
    const [policy, nice, priority, flags] = said.split(' ').map(Number)
    if (flags === undefined || Number.isNaN(flags)) throw new Error(`Cannot look at task ${tid}: ${said}`)
    return { policy: policy!, nice: nice!, priority: priority!, flags }
  }

  /** The class << 13 | level that a task has for its I/O; 0 for none of its own. */
  async io(tid: number): Promise<number> {
    const [said = ''] = await this.#conversation.ask(`io ${tid}\n`)
    if (!/^\d+$/.test(said)) throw new Error(`Cannot look at task ${tid}: ${said}`)
    return Number(said)
  }

  async setLimit(tid: number, resource: number, soft: bigint, hard: bigint): Promise<void> {
    const [said] = await this.#conversation.ask(`limit ${tid} ${resource} ${soft} ${hard}\n`)
    if (said !== 'ok') throw new Error(`Cannot limit task ${tid}: ${said}`)
  }

  /** The soft limit and the hard one of a task's process. */
  async limit(tid: number, resource: number): Promise<string> {
    const [said = ''] = await this.#conversation.ask(`limit ${tid} ${resource}\n`)
    if (!/^\d+ \d+$/.test(said)) throw new Error(`Cannot look at the limits of task ${tid}: ${said}`)
    return said
  }

  close(): void {
    this.#child.kill('SIGKILL')
  }
}

/** No task has it in a namespace of a few tasks. */
const NOBODY = 30_000
const NESTED: ReadonlySet<string> = new Set(['nest', 'nest2'])
let worlds = 0

/** The tasks of the fixture `sched-world`, in a container or natively. */
export class World {
  readonly #child: ChildProcess
  readonly #conversation: Conversation
  /** By name: the number in the host's pid namespace, in the world's, in the nested one. */
  readonly #numbers: ReadonlyMap<string, readonly number[]>

  private constructor(
    child: ChildProcess,
    conversation: Conversation,
    numbers: ReadonlyMap<string, readonly number[]>,
  ) {
    this.#child = child
    this.#conversation = conversation
    this.#numbers = numbers
  }

  /** @param command what starts the fixture in a pid namespace of its own; the tag is added */
  static async start([program = '', ...args]: readonly string[]): Promise<World> {
    const tag = `${process.pid % 1000}${String.fromCharCode(97 + (worlds++ % 26))}`
    const child = spawn(program, [...args, tag], { stdio: ['pipe', 'pipe', 'inherit'] })
    const conversation = talk(child)
    const [ready] = await conversation.ask('')
    if (ready !== 'ready') throw new Error(`Cannot start a world: ${ready}`)
    return new World(child, conversation, numbersOf(tag))
  }

  /** In the host's pid namespace. */
  tid(name: string): number {
    const [tid] = this.#numbers.get(name) ?? []
    if (tid === undefined) throw new Error(`There is no task ${name}`)
    return tid
  }

  /** The number of `target` as `caller` knows it; one that nobody has if it does not see it, or for the target "nobody". */
  number(caller: string, target: string): number {
    if (target === 'self') return 0
    return this.#numbers.get(target)?.[NESTED.has(caller) ? 2 : 1] ?? NOBODY
  }

  /** @param call a line for the fixture @returns the result, and the bytes of the last pointer then */
  async call(caller: string, call: string): Promise<{ readonly result: string; readonly bytes: string }> {
    const [said = ''] = await this.#conversation.ask(`${caller} ${call}\n`)
    const [result = '', bytes = ''] = said.split(' ')
    return { result, bytes }
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.on('exit', resolve))
    this.#child.stdin?.end()
    if (this.#child.exitCode === null) await ended
  }
}

/** Looks for all tasks whose name begins with the tag. */
function numbersOf(tag: string): ReadonlyMap<string, readonly number[]> {
  const tasks = readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((pid) =>
      readOr(() => readdirSync(`/proc/${pid}/task`).map((tid) => `/proc/${pid}/task/${tid}/status`), []),
    )
  const named = tasks.flatMap((path) => {
    const status = readOr(() => readFileSync(path, 'latin1'), '')
    const name = new RegExp(`^Name:\t${tag}-(.*)$`, 'm').exec(status)?.[1]
    const numbers = /^NSpid:\t(.*)$/m.exec(status)?.[1]?.split('\t').map(Number)
    return name && numbers ? [[name, numbers] as const] : []
  })
  return new Map(named)
}

/** Tasks come and go while one looks. */
function readOr<T>(read: () => T, otherwise: T): T {
  try {
    return read()
  } catch {
    return otherwise
  }
}
