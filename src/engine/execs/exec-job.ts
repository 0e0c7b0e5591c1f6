import type { Tid } from '../../abi/brand.ts'
import type { FuseJob } from '../../caller/fuse/fuse-caller.ts'
import type { ReasonCode } from '../../calls/reasons.ts'
import { now } from '../../kernel/clock.ts'
import { setAndWake, struct, waitWhile } from '../../shared/words.ts'

/** The words of an answer: the state of the job (see `EXEC`), the exit status, and 1 if others wait for a start. */
const [WORD, WORDS] = struct({ state: 1, status: 1, pressed: 1 })
/**
 * The state of a job. told: the program was killed, and its output was reported.
 *
 *   asked -> runs      ContainerExecs.start(), or later, when it is its turn
 *   asked -> refused   ContainerExecs.start(), or later: too many programs are starting
 *   runs -> ended      ContainerExecs.start(), once it has ended
 *   ended -> told      ContainerExecs.over(): it has failed
 */
const EXEC = { asked: 0, runs: 1, refused: 2, ended: 3, told: 4 } as const
/** How long a thread waits until a killed program has ended and its output was reported. */
const TOLD_MS = 2000

/** A thread's request to the main thread to start a program in a container. */
export interface ExecRequest {
  /** The job's id, unique in this process. */
  readonly job: string
  /** The program's name, for the log. */
  readonly program: string
  /** The task for which it is started. */
  readonly caller: Tid
  /** The OCI process object as JSON, for the runtime. */
  readonly process: string
  /** The words into which the main thread writes state and exit status. */
  readonly answer: SharedArrayBuffer
}

/**
 * The main thread's side of an answer.
 *
 * Invariant: the main thread alone calls its methods.
 */
export class ExecAnswer {
  readonly #words: Int32Array

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer)
  }

  say(state: keyof typeof EXEC, status = 0): void {
    Atomics.store(this.#words, WORD.status, status)
    setAndWake(this.#words, WORD.state, EXEC[state])
  }

  /** Whether containers with fewer programs wait for the end of this start. */
  press(isPressed: boolean): void {
    Atomics.store(this.#words, WORD.pressed, isPressed ? 1 : 0)
  }
}

interface Main {
  readonly ask: (asked: ExecRequest) => void
  readonly over: (job: string, failed: ReasonCode | undefined) => void
}

/**
 * Asks the main thread to start a program in a container, and waits for that program.
 *
 * Invariant: the main thread alone writes the words, the status before the state; the asking thread reads them and
 * waits (futex) on the state.
 */
export class ExecJob implements FuseJob {
  readonly #words = new Int32Array(new SharedArrayBuffer(4 * WORDS))
  readonly #job: string
  readonly #main: Main

  /** @param job an id which no other job of this process has */
  constructor(job: string, main: Main) {
    this.#job = job
    this.#main = main
  }

  /**
   * Starts the program, perhaps after other programs.
   *
   * @returns false if the main thread refused, since too many programs are starting
   */
  start({ program, caller, process }: Pick<ExecRequest, 'program' | 'caller' | 'process'>): boolean {
    this.#main.ask({ job: this.#job, program, caller, process, answer: this.#words.buffer })
    waitWhile(this.#words, WORD.state, EXEC.asked)
    return Atomics.load(this.#words, WORD.state) !== EXEC.refused
  }

  get status(): number | undefined {
    return Atomics.load(this.#words, WORD.state) >= EXEC.ended ? Atomics.load(this.#words, WORD.status) : undefined
  }

  get isPressed(): boolean {
    return Atomics.load(this.#words, WORD.pressed) === 1
  }

  wait(milliseconds: number): void {
    waitWhile(this.#words, WORD.state, EXEC.runs, milliseconds)
  }

  over(failed?: ReasonCode): void {
    this.#main.over(this.#job, failed)
    const end = now() + TOLD_MS
    for (let left = TOLD_MS; failed !== undefined && left > 0; left = end - now()) {
      const state = Atomics.load(this.#words, WORD.state)
      if (state === EXEC.told) return
      waitWhile(this.#words, WORD.state, state, left)
    }
  }
}
