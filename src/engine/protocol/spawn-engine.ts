import { type ChildProcess, spawn } from 'node:child_process'
import { build } from '../../kernel/build.ts'
import type { Handle } from '../../kernel/handle.ts'

/** Descriptors that the engine process inherits. */
export const CONTROL_FD = 3
export const JOURNAL_FD = 4
export const PERSISTENT_FD = 5

export interface EngineOptions {
  readonly build: string
  readonly threads: number
  /** As in `Limits`. */
  readonly calls: number
  readonly callsPerContainer: number
}

/** What the keeper and all its engines have in common. */
export interface SharedMemories {
  readonly journal: Handle
  /** For `PersistentState`. */
  readonly persistent: Handle
}

const MAIN = new URL(`../main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url)

const FLAGS = ['--max-semi-space-size=2', '--stack-trace-limit=0']

/**
 * Starts the engine process. It gets nothing of our environment but what it needs: no io_uring (its threads would do file
 * calls at home for a thread that is elsewhere), no time zone to load while inside a container.
 *
 * @param control the engine's end of the keeper's socket; stays the caller's
 */
export function spawnEngine(
  control: Handle,
  { journal, persistent: lasting }: SharedMemories,
  options: Omit<EngineOptions, 'build'>,
): ChildProcess {
  return spawn(process.execPath, [...FLAGS, MAIN.pathname, JSON.stringify({ ...options, build })], {
    stdio: ['ignore', 'ignore', 'inherit', control.raw, journal.raw, lasting.raw],
    env: { UV_USE_IO_URING: '0', TZ: 'UTC', PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    cwd: '/',
    // A signal to a whole process group (Ctrl-C, timeout(1)) is meant for the container, or for the keeper, which ends it.
    detached: true,
  })
}
