import { type ChildProcess, spawn } from 'node:child_process'
import type { HostId } from '../../abi/brand.ts'
import { giveKeyring, joinEmptyKeyring } from '../../kernel/credentials.ts'
import { openNothing } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { spawnWithoutInheritedFds } from '../../kernel/spawn-fds.ts'
import { Child, ERRORS } from '../../processes/child.ts'
import type { NodeProgram } from '../../processes/node-programs.ts'
import { struct } from '../../shared/struct.ts'
import { setAndWake, waitWhile } from '../../shared/words.ts'

export type Spawn = typeof spawn
export type StartProgram = (command: readonly [string, ...string[]], how: ProgramStart) => Child
export type StartHelper = (
  command: readonly [string, ...string[]],
  how: NodeProgram['how'],
  fds: readonly Handle[],
) => Child

/** How a program is started that works for a container. */
interface ProgramStart {
  readonly fds: readonly Handle[]
  readonly env: Readonly<Record<string, string | undefined>>
  /** Whom the program's session keyring belongs to: the root of the container. */
  readonly owner: { readonly uid: HostId; readonly gid: HostId } | undefined
}

const PATIENCE_MS = 1000
/**
 * Does the main thread start a process just now? And does a thread of libuv's pool?
 *
 *   rests -> starts   SpawnGuard.spawn(); SpawnGuard.begin()
 *   starts -> rests   SpawnGuard.spawn(), SpawnGuard.end(): the process has none of our descriptors any more
 */
const GUARD = { rests: 0, starts: 1 } as const
const [GUARDED] = struct({ main: 1, pool: 1 })

/**
 * Starts processes, and lets other threads wait until none is being started. A forked process has copies of all our
 * descriptors until its execve(2), which takes milliseconds if no processor is free: a descriptor that we close
 * meanwhile is still open there, and so a mount which its caller has just attached is busy.
 *
 * Invariant: the first word is 1 while a process is between fork and execve which the main thread starts itself, the
 * second while a thread of libuv's pool starts it, else 0. The main thread alone calls all but `settle`.
 */
export class SpawnGuard {
  readonly #words: Int32Array

  /** @param words two words of the memory that all threads share */
  constructor(words: Int32Array) {
    this.#words = words
  }

  /** Does what Node's spawn does, and returns when the new process has no copies of our descriptors any more. */
  readonly spawn: Spawn = ((...args: Parameters<Spawn>): ChildProcess => {
    Atomics.store(this.#words, GUARDED.main, GUARD.starts)
    try {
      return spawnWithoutInheritedFds(() => spawn(...args))
    } finally {
      setAndWake(this.#words, GUARDED.main, GUARD.rests)
    }
  }) as Spawn

  /**
   * Starts a helper, which writes to our standard error, too.
   *
   * @param command ends with a program of ours
   * @param fds the descriptors that it gets as 3, 4, ...
   * @throws {SyscallError} if it cannot be started
   */
  readonly startHelper: StartHelper = (command, { env, cwd: directory }, fds) => {
    using nothing = openNothing()
    return this.#child(command, { env, directory, detached: false, fds: [nothing, nothing, ERRORS, ...fds] })
  }

  /**
   * Starts a program that works for a container, in a session of its own, with a session keyring that no other program
   * gets: not even this thread has it once the program runs.
   *
   * @throws {SyscallError} if it cannot be started; EDQUOT if the owner has too many keys
   */
  readonly startProgram: StartProgram = (command, { owner, ...how }) => {
    joinEmptyKeyring()
    let child: Child
    try {
      if (owner) giveKeyring(owner.uid, owner.gid)
      child = this.#child(command, how)
    } catch (error) {
      joinEmptyKeyring()
      throw error
    }
    joinEmptyKeyring()
    return child
  }

  #child(...started: ConstructorParameters<typeof Child>): Child {
    Atomics.store(this.#words, GUARDED.main, GUARD.starts)
    try {
      return new Child(...started)
    } finally {
      setAndWake(this.#words, GUARDED.main, GUARD.rests)
    }
  }

  /** A thread of libuv's pool starts a process from now on. Precondition: none does. */
  begin(): void {
    Atomics.store(this.#words, GUARDED.pool, GUARD.starts)
  }

  /** The process that a thread of the pool has started has none of our descriptors any more. */
  end(): void {
    setAndWake(this.#words, GUARDED.pool, GUARD.rests)
  }

  /** Waits, for at most `PATIENCE_MS`, until no new process can have descriptors that were closed before this call. */
  settle(): void {
    for (const at of [GUARDED.main, GUARDED.pool]) waitWhile(this.#words, at, GUARD.starts, PATIENCE_MS)
  }
}
