import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'
import { layout } from './layout.ts'
import type { Stdio } from './stdio.ts'

/** A shell that joins cgroups before it executes the runtime, so that no process of the container is ever outside. */
const JOIN = 'while [ "$1" != -- ]; do echo $$ >"$1" || exit 125; shift; done; shift; exec "$@"'

/**
 * Starts the runtime in the foreground: it stays the container's parent, passes signals on and ends with its status.
 */
export function startRuntime(runtime: string, name: string, stdio: Stdio, joinFirst: readonly string[]): ChildProcess {
  const log = ['--log', layout.log, '--log-format', 'json']
  const run = [runtime, '--root', layout.state, ...log, 'run', '--bundle', layout.bundle, ...stdio.args, name]
  // The runtime gets a session of its own; otherwise Ctrl-C would reach it twice, from the terminal and from us.
  return spawn('/bin/sh', ['-c', JOIN, 'sh', ...joinFirst, '--', ...run], {
    stdio: stdio.ends.map(({ raw }) => raw),
    detached: true,
    cwd: '/',
  })
}

/**
 * Returns the exit status as a shell does, 128 plus the number of a signal. @throws {Error} if the program did not
 * start
 */
export async function statusOf(child: ChildProcess): Promise<number> {
  const [status, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
  return status ?? 128 + (signal ? constants.signals[signal] : 0)
}
