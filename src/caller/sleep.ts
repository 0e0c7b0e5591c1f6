import type { Tid } from '../abi/brand.ts'
import type { Cap } from '../abi/capability.ts'
import { O_RDONLY, openat, read } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { stateOf } from '../kernel/process.ts'
import type { TaskNames } from './task-names.ts'
import type { ThreadIdentity } from './thread-identity.ts'

interface View {
  readonly tid: Tid
  /** The host's /proc. */
  readonly proc: Handle
  readonly names: TaskNames
  readonly identity: ThreadIdentity
}

/** By what a thread is known when its call comes again. */
export interface Stamp {
  /** When it was started, in ticks since the boot. */
  readonly born: number
  /** Its stack pointer: the call of a signal handler has another one. */
  readonly stack: bigint
}

/** `/proc/TID/syscall` is as private as the memory of the task. */
const PRIVATE: readonly Cap[] = ['SYS_PTRACE', 'DAC_READ_SEARCH']
const LIMIT = 1024
/** Of the fields of `/proc/TID/stat` after the name, which may hold anything. */
const STARTTIME = 19
/** Of `/proc/TID/syscall`: number, six arguments, stack pointer, program counter. */
const STACK = 7

/**
 * How the thread of a call sleeps while it waits for its answer. Every look may be at another task, if the call does not wait
 * any more.
 */
export class Sleep {
  readonly #view: View
  readonly #bytes = Buffer.alloc(LIMIT)

  constructor(view: View) {
    this.#view = view
  }

  /** Is it asleep, and not being woken? */
  get isSound(): boolean {
    const state = stateOf(this.#view.proc, this.#view.tid)
    return state === 'S' || state === 'D'
  }

  /** Inside. @returns undefined while it runs @throws {SyscallError} ENOENT, ESRCH if it is gone */
  stamp(): Stamp | undefined {
    const fields = this.#view.identity.looking(() => this.#read('syscall'), PRIVATE).split(' ')
    const stack = fields[STACK]
    return stack === undefined ? undefined : { born: Number(startOf(this.#read('stat'))), stack: BigInt(stack) }
  }

  #read(name: string): string {
    const { proc, names, tid } = this.#view
    using file = openat(proc.raw, names.of(tid, name), O_RDONLY)
    return this.#bytes.toString('latin1', 0, read(file, this.#bytes))
  }
}

const startOf = (stat: string): string | undefined => stat.slice(stat.lastIndexOf(')') + 2).split(' ')[STARTTIME]
