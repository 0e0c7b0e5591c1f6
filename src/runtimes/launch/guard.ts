import { writeSync } from 'node:fs'
import { orElse, orUndefined } from '../../kernel/error.ts'
import { spawnsInto } from '../../kernel/exec.ts'
import { type Handle, pipe } from '../../kernel/fd.ts'
import { openNothing } from '../../kernel/files.ts'
import { Child } from '../../processes/child.ts'
import type { TerminalKeeper } from './terminal.ts'
import { CGROUP_ROOT, openDirectory } from './tree.ts'

/**
 * Waits for the end of its input, which comes when the process that holds the other end has ended, however it ended.
 * Then it kills what is in the control groups, given as arguments, and removes them. It kills in each round, since
 * the runtime may be about to join.
 *
 * A line of its input says how the user's terminal, descriptor 3, was and is, if it is raw. A terminal that is still as
 * the line says gets its former settings: a shell that has changed it meanwhile has put it right itself.
 *
 * It ignores what systemd sends to all processes of a unit, as do the programs that it starts.
 */
const SCRIPT = `trap '' HUP INT QUIT TERM USR1 USR2
raw=
while read -r word now; do former=$word raw=$now; done
restore() {
  [ "$(timeout -s KILL 1 stty -g <&3)" = "$raw" ] && timeout -s KILL 1 stty "$former" <&3
}
[ -z "$raw" ] || restore &
round=0
while [ -d "$1" ] && [ $round -lt 200 ]; do
  echo 1 >"$1/cgroup.kill"
  find "$@" -depth -type d -exec rmdir {} +
  sleep 0.05
  round=$((round + 1))
done
for group; do rmdir "\${group%/*}"; done`

/** The process that ends the container if ours is killed, and then restores the user's terminal. */
interface Guard extends Disposable, TerminalKeeper {}

/**
 * Starts a process that ends the container when this process ends in whatever way, SIGKILL too. It stays until
 * dispose, in a session of its own, so that no signal of the terminal reaches it, and in the outermost cgroup, if it
 * can be there: whoever kills a cgroup that we are in, as systemd does, does not kill it too.
 *
 * @param groups the cgroups of the container: the one of v2 first, which has cgroup.kill
 * @param terminal our descriptor of the user's terminal, if the container takes it over
 * @throws {Error} if it cannot be started
 */
export function startGuard(groups: readonly string[], terminal: number | undefined): Guard {
  const { read, write } = pipe()
  using input = read
  using nothing = openNothing()
  const shown: Handle = terminal === undefined ? nothing : { raw: terminal, [Symbol.dispose]() {} }
  const fds = [input, nothing, nothing, shown]
  const start = (cgroup?: Handle): Child | undefined =>
    orUndefined('any', () => new Child(['/bin/sh', '-c', SCRIPT, 'sh', ...groups], { fds, env: process.env, cgroup }))
  using outermost = openDirectory(CGROUP_ROOT)
  const guard = (spawnsInto ? start(outermost) : undefined) ?? start()
  if (guard === undefined) throw new Error('Cannot guard the container: no process could be started; see ulimit -u')
  const tell = (line: string): void => {
    // If somebody has killed the guard, nobody is told.
    orElse(undefined, () => writeSync(write.raw, line))
  }
  return {
    isRaw: (before, raw) => tell(`${before} ${raw}\n`),
    isFormer: () => tell('-\n'),
    [Symbol.dispose]() {
      guard.kill('SIGKILL')
      write[Symbol.dispose]()
    },
  }
}
