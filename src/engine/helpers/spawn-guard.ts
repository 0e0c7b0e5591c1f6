import type { HostId } from '../../abi/brand.ts'
import type { Cap } from '../../abi/credentials.ts'
import { closeKeyring, giveKeyring, joinEmptyKeyring } from '../../kernel/credentials.ts'
import type { Handle } from '../../kernel/fd.ts'
import { openNothing } from '../../kernel/files.ts'
import { Child, ERRORS } from '../../processes/child.ts'
import type { NodeProgram } from '../../processes/node-programs.ts'
import { setAndWake, waitWhile } from '../../shared/words.ts'

export type StartProgram = (command: readonly [string, ...string[]], how: ProgramStart) => Child
export type StartHelper = (
  command: readonly [string, ...string[]],
  how: NodeProgram['how'],
  fds: readonly Handle[],
) => Child

/** How to start a program that works for a container. */
interface ProgramStart {
  readonly fds: readonly Handle[]
  readonly env: Readonly<Record<string, string | undefined>>
  /** The owner of the program's session keyring: the container's root. */
  readonly owner: { readonly uid: HostId; readonly gid: HostId } | undefined
}

/** Only the main thread can make a thread wait this long: it needs a processor, and the disk with the program. */
const PATIENCE_MS = 10_000
/**
 * Whether the main thread is starting a process now.
 *
 *   rests -> starts   SpawnGuard.start()
 *   starts -> rests   SpawnGuard.start(), when the process has none of our descriptors any more
 */
const GUARD = { rests: 0, starts: 1 } as const
/** The only word. */
const MAIN = 0

/**
 * Starts processes, and lets other threads wait until none is being started. A forked process has copies of all our
 * descriptors until its execve(2), which takes milliseconds if no processor is free: a descriptor that we close
 * meanwhile is still open there, and so a mount which its caller has just attached is busy.
 *
 * Invariant: the word is 1 while a process of ours is between fork and execve, otherwise 0. The main thread alone
 * starts processes; any thread may call `settle`.
 */
export class SpawnGuard {
  readonly #words: Int32Array

  /** @param words a word of the memory that all threads share */
  constructor(words: Int32Array) {
    this.#words = words
  }

  /**
   * Starts a program without a copy of our memory: see `Child`.
   *
   * @throws {SyscallError} if it cannot be started
   */
  start(...args: ConstructorParameters<typeof Child>): Child {
    Atomics.store(this.#words, MAIN, GUARD.starts)
    try {
      return new Child(...args)
    } finally {
      setAndWake(this.#words, MAIN, GUARD.rests)
    }
  }

  /**
   * Starts a helper, which writes to our standard error, too.
   *
   * @param command ends with a program of ours
   * @param fds the descriptors that it gets as 3, 4, ...
   * @throws {SyscallError} if it cannot be started
   */
  readonly startHelper: StartHelper = (command, { env, cwd: directory }, fds) => {
    using nothing = openNothing()
    return this.start(command, { env, directory, detached: false, fds: [nothing, nothing, ERRORS, ...fds] })
  }

  /**
   * Starts a program that works for a container, in a session of its own, with a session keyring that no other program
   * gets: not even this thread has it once the program runs. If the owner has too many keys, which may be those of
   * another container with the same ids, the keyring stays ours, and the program cannot use it.
   *
   * @throws {SyscallError} if it cannot be started
   */
  readonly startProgram: StartProgram = (command, { owner, ...how }) => {
    joinEmptyKeyring()
    let child: Child
    try {
      if (owner && !giveKeyring(owner.uid, owner.gid)) closeKeyring()
      child = this.start(command, how)
    } catch (error) {
      joinEmptyKeyring()
      throw error
    }
    joinEmptyKeyring()
    return child
  }

  /** Waits, for at most `PATIENCE_MS`, until no new process can have descriptors that were closed before this call. */
  settle(): void {
    waitWhile(this.#words, MAIN, GUARD.starts, PATIENCE_MS)
  }
}

/** The program that executes another program with limited capabilities. */
export const LIMITER = 'setpriv'

/**
 * Returns the words to put before a command so that its threads and the programs that it executes cannot have more
 * capabilities than `caps`. A process cannot do this to itself: capset(2) changes the calling thread only, and Node's
 * other threads run before our first statement.
 *
 * @param more further options of setpriv(1)
 */
export const limitedTo = (caps: readonly Cap[], more: readonly string[] = []): readonly [string, ...string[]] => [
  LIMITER,
  '--no-new-privs',
  '--inh-caps=-all',
  '--ambient-caps=-all',
  `--bounding-set=${['-all', ...caps.map((cap) => `+${cap.toLowerCase()}`)].join(',')}`,
  ...more,
  '--',
]
