import type { Tid } from '../../abi/brand.ts'
import { O_RDONLY } from '../../abi/fcntl.ts'
import { openat, read } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { startIn, stateIn } from '../../kernel/process.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'
import type { ProcNames } from './proc-names.ts'

interface View {
  readonly tid: Tid
  /** The host's /proc. */
  readonly proc: Handle
  readonly names: ProcNames
  readonly identity: ThreadIdentity
}

/** By what a thread is known when its call comes again. */
export interface SleepStamp {
  /** When it was started, in ticks since the boot. */
  readonly born: number
  /** Its stack pointer: the call of a signal handler has another one. */
  readonly stack: bigint
}

const bytes = Buffer.alloc(1024)
/** Of `/proc/TID/syscall`: number, six arguments, stack pointer, program counter. */
const STACK = 7

/**
 * How the thread of a call sleeps while it waits for its answer. Every look may be at another task, if the call does not wait
 * any more.
 */
export class SleepState {
  readonly #view: View

  constructor(view: View) {
    this.#view = view
  }

  /** Is it asleep, and not being woken? */
  get isSound(): boolean {
    const state = stateIn(this.#view.proc.raw, this.#name('stat'))
    return state === 'S' || state === 'D'
  }

  /** Inside. @returns undefined while it runs @throws {SyscallError} ENOENT, ESRCH if it is gone */
  stamp(): SleepStamp | undefined {
    // `/proc/TID/syscall` is as private as the memory of the task.
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
