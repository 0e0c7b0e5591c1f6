import { readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { SIGKILL } from '../abi/process.ts'
import { spawnNow } from '../kernel/exec.ts'
import type { Handle } from '../kernel/fd.ts'
import { type Ending, reap } from '../kernel/process.ts'

/** How often to look for ends of which no signal has told, in milliseconds. */
const LOOK_MS = 1000

const running = new Set<Child>()
let timer: NodeJS.Timeout | undefined

function look(): void {
  for (const child of running) child.look()
  if (running.size > 0) return
  clearInterval(timer)
  timer = undefined
  process.off('SIGCHLD', look)
}

/** To be called before a process is started, which may end at once. */
function listen(): void {
  if (timer !== undefined) return
  timer = setInterval(look, LOOK_MS)
  process.on('SIGCHLD', look)
}

const signalName = (number: number): NodeJS.Signals =>
  (Object.entries(constants.signals).find(([, each]) => each === number)?.[0] ?? 'SIGKILL') as NodeJS.Signals

interface ChildOptions {
  /** The descriptors that the program gets as 0, 1, 2, ...; the caller still owns them. */
  readonly fds: readonly Handle[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cgroup?: Handle | undefined
  /** The directory in which it begins; else the root. */
  readonly directory?: string
  /** Whether it begins a session of its own; else it does. */
  readonly detached?: boolean
}

/** Our standard error, for a program that shall write there, too. */
export const ERRORS: Handle = { raw: 2, [Symbol.dispose]() {} }

/**
 * A process that this one has started. It keeps the event loop alive, as one that Node starts.
 *
 * Invariant: the main thread alone uses it.
 */
export class Child {
  readonly pid: number
  readonly ended: Promise<Ending>
  #tell: (ending: Ending) => void = () => {}
  #isOver = false

  /** @throws {SyscallError} if it cannot be started */
  constructor(
    command: readonly [string, ...string[]],
    { env, directory = '/', detached = true, ...rest }: ChildOptions,
  ) {
    const environment = Object.entries(env).map(([name, value]) => `${name}=${value}`)
    this.ended = new Promise((resolve) => {
      this.#tell = resolve
    })
    listen()
    try {
      this.pid = spawnNow(command, { ...rest, environment, directory, detached })
      running.add(this)
    } finally {
      look()
    }
  }

  /**
   * Lets the kernel end this process before us when memory is short.
   *
   * @param score how much more likely, in thousandths of the memory that there may be
   * @see proc_pid_oom_score_adj(5)
   */
  endBeforeUs(score: number): void {
    try {
      const own = Number(readFileSync('/proc/self/oom_score_adj', 'latin1'))
      writeFileSync(`/proc/${this.pid}/oom_score_adj`, `${Math.min(1000, own + score)}`)
    } catch {
      // It has ended, or there is no procfs for us: then the kernel goes by size alone.
    }
  }

  get isOver(): boolean {
    return this.#isOver
  }

  look(): void {
    const ending = reap(this.pid)
    if (ending === undefined) return
    this.#isOver = true
    running.delete(this)
    this.#tell(ending)
  }

  /** Sends a signal, unless it has ended. */
  kill(signal: NodeJS.Signals | number): void {
    // Only we reap it: its number is no other process's.
    if (!this.#isOver) process.kill(this.pid, signal)
  }
}

/** Returns the exit status as a shell does: 128 plus the number of a signal. */
export const shellStatus = (ending: Ending): number => ('status' in ending ? ending.status : 128 + ending.signal)

/** Says how a process has ended. */
export const howEnded = (ending: Ending): string =>
  'status' in ending ? `ended with status ${ending.status}` : `was ended by ${signalName(ending.signal)}`

export const wasKilled = (ending: Ending): boolean => 'signal' in ending && ending.signal === SIGKILL
