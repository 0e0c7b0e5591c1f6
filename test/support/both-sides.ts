// Runs a script as root of the host and in a container of a `Host`: for tests that compare the two.

import { type Done, execute, type Host } from './host.ts'

export type Side = 'native' | 'contained'

/** Shell functions of the scripts. opens: opens a file for writing, and says how that ended, without the shell's name. */
const FUNCTIONS = 'opens() { if said=$( (: >"$1") 2>&1 ); then echo opens; else echo "$said" | sed "s,.*: ,,"; fi; }'

/** Runs a script on both sides, each in a mount namespace of its own. */
export async function both(host: Host, script: (side: Side) => string): Promise<Readonly<Record<Side, Done>>> {
  const shell = (side: Side) => ['--mount', 'sh', '-c', `${FUNCTIONS}\n${script(side)}`]
  const native = await execute('unshare', shell('native'))
  return { native, contained: await host.run(['--mounts', '--pidns', '--xattr'], ['unshare', ...shell('contained')]) }
}
