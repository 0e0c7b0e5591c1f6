import type { FuseJob } from '../../caller/fuse/fuse-caller.ts'
import type { ReasonCode } from '../../calls/reason.ts'
import { now } from '../../kernel/clock.ts'

/** Words of an answer: how far it is, and the exit status. */
const STATE = 0
const STATUS = 1
const EXEC = { asked: 0, runs: 1, refused: 2, ended: 3, told: 4 } as const
/** For a program that was killed, and its last words. */
const TOLD_MS = 2000

/** What a thread asks the main thread for: to start a program in a container. */
export interface ExecRequest {
  /** By which it is known. */
  readonly job: string
  /** Its name, for the log. */
  readonly program: string
  /** As JSON, for the runtime. */
  readonly process: string
  /** Where the main thread writes how far it is. */
  readonly answer: SharedArrayBuffer
}

export type ExecAnswer = (state: keyof typeof EXEC, status?: number) => void

export const answerOf = (buffer: SharedArrayBuffer): ExecAnswer => {
  const words = new Int32Array(buffer)
  return (state: keyof typeof EXEC, status = 0): void => {
    Atomics.store(words, STATUS, status)
    Atomics.store(words, STATE, EXEC[state])
    Atomics.notify(words, STATE)
  }
}

interface Main {
  readonly ask: (asked: ExecRequest) => void
  readonly over: (job: string, failed: ReasonCode | undefined) => void
}

/** A thread's view of a program that the main thread has started for it. */
export class ExecJob implements FuseJob {
  readonly #words = new Int32Array(new SharedArrayBuffer(8))
  readonly #job: string
  readonly #main: Main

  /** @param job its number: no other one of the process has it */
  constructor(job: string, main: Main) {
    this.#job = job
    this.#main = main
  }

  /** @returns whether it was started */
  start(program: string, process: string): boolean {
    this.#main.ask({ job: this.#job, program, process, answer: this.#words.buffer })
    Atomics.wait(this.#words, STATE, EXEC.asked)
    return Atomics.load(this.#words, STATE) !== EXEC.refused
  }

  get status(): number | undefined {
    return Atomics.load(this.#words, STATE) >= EXEC.ended ? Atomics.load(this.#words, STATUS) : undefined
  }

  wait(milliseconds: number): void {
    Atomics.wait(this.#words, STATE, EXEC.runs, milliseconds)
  }

  over(failed?: ReasonCode): void {
    this.#main.over(this.#job, failed)
    const end = now() + TOLD_MS
    for (let left = TOLD_MS; failed !== undefined && left > 0; left = end - now()) {
      const state = Atomics.load(this.#words, STATE)
      if (state === EXEC.told) return
      Atomics.wait(this.#words, STATE, state, left)
    }
  }
}
