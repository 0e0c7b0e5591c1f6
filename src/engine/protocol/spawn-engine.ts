import { type ChildProcess, spawn } from 'node:child_process'
import type { Handle } from '../../kernel/handle.ts'
import { build } from '../../processes/build-id.ts'

/** Descriptors that the engine process inherits. */
export const CONTROL_FD = 3
export const JOURNAL_FD = 4
export const PERSISTENT_FD = 5

export interface EngineOptions {
  readonly build: string
  readonly threads: number
  /** How many calls of all containers may be in flight: see `Limits`. */
  readonly calls: number
  readonly callsPerContainer: number
}

/** The memfds which the keeper shares with all its engines. */
export interface SharedMemories {
  readonly journal: Handle
  /** The memory of `PersistentState`. */
  readonly persistent: Handle
}

const MAIN = new URL(`../main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url)

const FLAGS = ['--max-semi-space-size=2', '--stack-trace-limit=0']

/**
 * Starts the engine process, with only the environment that it needs. No io_uring: the kernel's threads would make file
 * calls with the host's root for an engine thread that has entered a container. UTC: no time zone file is loaded there.
 *
 * @param control the engine's end of the keeper's socket; the caller still owns it
 */
export function spawnEngine(
  control: Handle,
  { journal, persistent }: SharedMemories,
  options: Omit<EngineOptions, 'build'>,
): ChildProcess {
  return spawn(process.execPath, [...FLAGS, MAIN.pathname, JSON.stringify({ ...options, build })], {
    stdio: ['ignore', 'ignore', 'inherit', control.raw, journal.raw, persistent.raw],
    env: { UV_USE_IO_URING: '0', TZ: 'UTC', PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    cwd: '/',
    // A signal to the whole process group (Ctrl-C, timeout(1)) is meant for container or keeper; the keeper ends us.
    detached: true,
  })
}
