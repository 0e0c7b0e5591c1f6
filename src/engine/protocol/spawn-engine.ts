import { type ChildProcess, spawn } from 'node:child_process'
import type { Handle } from '../../kernel/handle.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import { nodeProgram } from '../../processes/node-programs.ts'

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
 * Starts the engine process.
 *
 * @param control the engine's end of the keeper's socket; the caller still owns it
 */
export function spawnEngine(
  control: Handle,
  { journal, persistent, records, counts }: SharedMemories,
  options: Omit<EngineOptions, 'build'>,
): ChildProcess {
  const { node, flags, main, build, how } = nodeProgram('engine')
  return spawn(node, [...flags, main, JSON.stringify({ ...options, build })], {
    ...how,
    stdio: ['ignore', 'ignore', 'inherit', control.raw, journal.raw, persistent.raw, records.raw, counts.raw],
    // A signal to the whole process group (Ctrl-C, timeout(1)) is meant for container or keeper; the keeper ends us.
    detached: true,
  })
}
