import { orUndefined } from '../../kernel/error.ts'
import { spawnsInto } from '../../kernel/posix-spawn.ts'
import { Child } from '../../processes/child.ts'
import type { Cgroup } from './cgroup.ts'
import { layout } from './layout.ts'
import type { Stdio } from './stdio.ts'
import { openDirectory } from './tree.ts'

/** A shell that joins cgroups before it executes the runtime, so that no process of the container is ever outside. */
const JOIN = 'while [ "$1" != -- ]; do echo $$ >"$1" || exit 125; shift; done; shift; exec "$@"'

type Command = readonly [string, ...string[]]
type Options = Pick<ConstructorParameters<typeof Child>[1], 'fds' | 'env'>

const joining = (groups: readonly string[], run: Command): Command =>
  groups.length === 0
    ? run
    : ['/bin/sh', '-c', JOIN, 'sh', ...groups.map((path) => `${path}/cgroup.procs`), '--', ...run]

/**
 * Starts the runtime in the foreground: it stays the container's parent, passes signals on and ends with its status.
 *
 * @throws {SyscallError} if it cannot be started
 */
export function startRuntime(runtime: string, cgroup: Cgroup, stdio: Stdio): Child {
  const log = ['--log', layout.log, '--log-format', 'json']
  const options = ['--root', layout.state, ...log, 'run', '--bundle', layout.bundle, ...stdio.args]
  return startInside(cgroup, [runtime, ...options, cgroup.name], { fds: stdio.ends, env: process.env })
}

/** The process begins in its cgroup, if it can: for one that moves there the kernel waits for all processors. */
function startInside({ beside, limited }: Cgroup, run: Command, options: Options): Child {
  using cgroup = openDirectory(beside)
  const started = orUndefined('any', () => spawnsInto && new Child(joining(limited, run), { ...options, cgroup }))
  return started || new Child(joining([beside, ...limited], run), options)
}
