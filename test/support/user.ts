// A user of the host with subordinate ids: for tests of what is rootless.

import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Done } from './host.ts'
import type { Machine } from './machine.ts'

const checkout = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

const isReadable = (path: string): boolean =>
  spawnSync('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', 'head', '-c1', path]).status === 0

/** Why a unit that runs as a user of its own cannot run here: it must get at Node and at our files. */
export const rootOnly = (): string | undefined =>
  [join(checkout, 'bin/intercede.js'), process.execPath].every(isReadable) ? undefined : 'the checkout is root-only'

/**
 * The words for unshare(1) by which a user of the host runs `intercede` with these. The checkout is where the user can read
 * it, which the home of root is not.
 */
export const byUser = (...args: readonly string[]): readonly string[] => [
  ...['--mount', 'sh', '-c', 'mount --bind "$1" /mnt && shift && exec "$@"', 'sh', checkout],
  ...['setpriv', '--reuid=1234', '--regid=1234', '--clear-groups', process.execPath, '/mnt/bin/intercede.js', ...args],
]

/**
 * Makes a user, with subordinate ids, a home and a runtime directory, and runs `$1` as that user, in a pid namespace of its
 * own: whatever the user's engines leave behind ends with it. The checkout and Node are where the user can read them, which
 * the home of root is not.
 */
const BECOME = `set -e
home="$SCRATCH/home"
echo "alice:x:1234:1234::$home:/bin/bash" >>/etc/passwd
echo alice:x:1234: >>/etc/group
echo alice:2000000:65536 | tee -a /etc/subuid >>/etc/subgid
mkdir -p "$home" "$SCRATCH/user-run" "$SCRATCH/checkout" "$SCRATCH/bin"
chown 1234:1234 "$home" "$SCRATCH/user-run"
touch "$SCRATCH/bin/node"
mount --rbind "$CHECKOUT" "$SCRATCH/checkout"
mount --bind "$NODE" "$SCRATCH/bin/node"
cd "$home"
exec unshare --pid --fork --kill-child --mount-proc setpriv --reuid 1234 --regid 1234 --init-groups env -i HOME="$home" USER=alice \\
  XDG_RUNTIME_DIR="$SCRATCH/user-run" PATH="$SCRATCH/bin:/usr/sbin:/usr/bin:/sbin:/bin" SCRATCH="$SCRATCH" \\
  bash "$1"`

/** Runs a script as a user who has `intercede` and, in "$SCRATCH", the directory of the machine. */
export function asUser(machine: Machine, script: string): Promise<Done> {
  const folder = join(machine.directory, 'bin')
  mkdirSync(folder, { recursive: true })
  const command = join(folder, 'intercede')
  writeFileSync(command, '#!/bin/sh\nexec node "$SCRATCH/checkout/bin/intercede.js" "$@"\n')
  chmodSync(command, 0o755)
  const file = join(machine.directory, 'user.sh')
  writeFileSync(file, script)
  const given = [`CHECKOUT=${checkout}`, `NODE=${process.execPath}`]
  return machine.run('env', ...given, 'timeout', '--kill-after=5', '100', 'bash', '-c', BECOME, 'sh', file)
}
