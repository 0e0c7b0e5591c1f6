import { spawn } from 'node:child_process'

/**
 * Waits for the end of its input, which comes when the process that holds the other end has ended, however it ended.
 * Then it kills what is in the control groups, given as arguments, and removes them. It kills in each round, since
 * the runtime may be about to join.
 */
const SCRIPT = `read -r word
round=0
while [ -d "$1" ] && [ $round -lt 200 ]; do
  echo 1 >"$1/cgroup.kill"
  find "$@" -depth -type d -exec rmdir {} +
  sleep 0.05
  round=$((round + 1))
done
for group; do rmdir "\${group%/*}"; done`

/**
 * Starts a process that ends the container when this process ends in whatever way, SIGKILL too. It stays until
 * dispose, in a session of its own, so that no signal of the terminal reaches it.
 *
 * @param groups the cgroups of the container: the one of v2 first, which has cgroup.kill
 * @throws {Error} if it cannot be started
 */
export function startGuard(groups: readonly string[]): Disposable {
  const guard = spawn('/bin/sh', ['-c', SCRIPT, 'sh', ...groups], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    cwd: '/',
  })
  // An error of the start is told by the missing pid.
  guard.on('error', () => {})
  if (guard.pid === undefined) throw new Error('Cannot guard the container: no process could be started; see ulimit -u')
  guard.unref()
  return {
    [Symbol.dispose]() {
      guard.kill('SIGKILL')
    },
  }
}
