import type { Tid } from '../../abi/brand.ts'
import { O_RDONLY } from '../../abi/fcntl.ts'
import type { Handle } from '../../kernel/fd.ts'
import { openat, read } from '../../kernel/files.ts'
import { startIn, stateIn } from '../../kernel/process.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'
import type { ProcNames } from './proc-access.ts'

interface View {
  readonly tid: Tid
  /** The host's /proc. */
  readonly proc: Handle
  readonly names: ProcNames
  readonly identity: ThreadIdentity
}

/** Identifies a thread and its stack frame, by which a call that is made again is recognized. */
export interface SleepStamp {
  /** When the thread was started, in clock ticks since the boot. */
  readonly born: number
  /** The thread's stack pointer, which differs in the calls of a signal handler. */
  readonly stack: bigint
}

const bytes = Buffer.alloc(1024)
/** Index of the stack pointer in `/proc/TID/syscall`: number, six arguments, stack pointer, program counter. */
const STACK = 7

/**
 * Reads how the thread of a call sleeps while it waits for its answer. If the call no longer waits, TID may belong to
 * another task, so the caller of these methods must check that.
 */
export class SleepState {
  readonly #view: View

  constructor(view: View) {
    this.#view = view
  }

  /** True if the thread is asleep and not being woken. */
  get isSound(): boolean {
    const state = stateIn(this.#view.proc.raw, this.#name('stat'))
    return state === 'S' || state === 'D'
  }

  /**
   * Reads the stamp of the thread. Precondition: the calling thread has entered a caller.
   *
   * @returns undefined while the thread runs
   * @throws {SyscallError} ENOENT, ESRCH if it is gone
   */
  stamp(): SleepStamp | undefined {
    // `/proc/TID/syscall` is as protected as the memory of the task.
    const stack = this.#view.identity.searching(() => this.#fields())[STACK]
    if (stack === undefined) return undefined
    return { born: startIn(this.#view.proc.raw, this.#name('stat')), stack: BigInt(stack) }
  }

  #fields(): readonly string[] {
    using file = openat(this.#view.proc.raw, this.#name('syscall'), O_RDONLY)
    return bytes.toString('latin1', 0, read(file, bytes)).split(' ')
  }

  #name(file: string): Uint8Array {
    return this.#view.names.of(this.#view.tid, file)
  }
}
