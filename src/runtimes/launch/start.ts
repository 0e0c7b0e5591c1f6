import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'
import { layout } from './layout.ts'
import type { Stdio } from './stdio.ts'

/** Moves itself into a cgroup before it becomes the runtime, so that nothing of the container ever was outside. */
const JOIN = ['/bin/sh', '-c', 'echo $$ > "$1" && shift && exec "$@"', 'sh']

/** The runtime in the foreground: it stays the container's parent, passes signals on and ends with its status. */
export function startRuntime(runtime: string, name: string, stdio: Stdio, joinFirst?: string): ChildProcess {
  const log = ['--log', layout.log, '--log-format', 'json']
  const run = [runtime, '--root', layout.state, ...log, 'run', '--bundle', layout.bundle, ...stdio.args, name]
  const [program = '', ...args] = joinFirst === undefined ? run : [...JOIN, joinFirst, ...run]
  // Of a session of its own: else Ctrl-C would reach it twice, from the terminal and from us.
  return spawn(program, args, { stdio: stdio.ends.map(({ raw }) => raw), detached: true, cwd: '/' })
}

/** The exit status as a shell counts it. @throws {Error} if the program could not be started */
export async function statusOf(child: ChildProcess): Promise<number> {
  const [status, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
  return status ?? 128 + (signal ? constants.signals[signal] : 0)
}
