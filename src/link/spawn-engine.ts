import type { Handle } from '../kernel/fd.ts'
import { openNothing } from '../kernel/files.ts'
import type { ArgumentMode } from '../policy/config.ts'
import { Child, ERRORS } from '../processes/child.ts'
import { nodeProgram } from '../processes/node-programs.ts'

/** Descriptors that the engine process inherits. */
export const CONTROL_FD = 3
export const JOURNAL_FD = 4
export const PERSISTENT_FD = 5
export const RECORDS_FD = 6
export const COUNTS_FD = 7

export interface EngineOptions {
  readonly build: string
  readonly threads: number
  /** How many calls of all containers may be in flight: see `Limits`. */
  readonly calls: number
  readonly callsPerContainer: number
  /** How much of the arguments of calls is recorded. */
  readonly arguments: ArgumentMode
}

/** The memfds which the keeper shares with all its engines. */
export interface SharedMemories {
  readonly journal: Handle
  /** The memory of `PersistentState`. */
  readonly persistent: Handle
  /** The ring of records, see `RecordWriter`. */
  readonly records: Handle
  /** The counts, see `CountWriter`. */
  readonly counts: Handle
}

/**
 * Starts the engine process, in a session of its own: a signal to the whole process group (Ctrl-C, timeout(1)) is meant
 * for container or keeper; the keeper ends the engine.
 *
 * @param control the engine's end of the keeper's socket; the caller still owns it
 * @throws {SyscallError} if it cannot be started
 */
export function spawnEngine(
  control: Handle,
  { journal, persistent, records, counts }: SharedMemories,
  options: Omit<EngineOptions, 'build'>,
): Child {
  const { node, flags, main, build, how } = nodeProgram('engine')
  using nothing = openNothing()
  return new Child([node, ...flags, main, JSON.stringify({ ...options, build })], {
    env: how.env,
    directory: how.cwd,
    fds: [nothing, nothing, ERRORS, control, journal, persistent, records, counts],
  })
}
