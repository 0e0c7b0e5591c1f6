// Starts `intercede run`, and tells whether it can be tested here.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { crun } from '../../src/runtimes/known/crun.ts'
import { runc } from '../../src/runtimes/known/runc.ts'
import { findRuntime } from '../../src/runtimes/launch/runtime.ts'
import { missing } from './fixtures.ts'

export const INTERCEDE = fileURLToPath(new URL('../../bin/intercede.js', import.meta.url))

/** Why `run` cannot be tested here; undefined if it can. */
export const unable = (): string | undefined => (process.geteuid?.() === 0 ? undefined : 'only root can run containers')

export function hasRuntime(name: 'crun' | 'runc'): boolean {
  try {
    return findRuntime({ crun, runc }[name]).path !== ''
  } catch {
    return false
  }
}

export interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/**
 * Runs `intercede run` to its end, never with a file of the host as stdin.
 *
 * @param program that of another build
 */
export function run(args: readonly string[], input = '', program = INTERCEDE): Ended {
  return spawnSync(process.execPath, [program, 'run', ...args], {
    input,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    timeout: 30_000,
  })
}

export const sh = (script: string): string[] => ['--', 'sh', '-c', script]

/** Starts `intercede run`; resolves when the container has written its first line. */
export async function start(args: readonly string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, [INTERCEDE, 'run', ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  await new Promise((resolve) => child.stdout?.once('data', resolve))
  return child
}

export const ended = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode)
    else child.once('exit', (status) => resolve(status))
  })

/** The cgroups of a run that the test itself started; others may run on this machine. */
export const cgroupOf = (pid: number | undefined): string[] => cgroups().filter((name) => name.startsWith(`${pid}-`))

/** The processes whose command line contains a text, but for those that have ended. */
export const running = (text: string): string[] =>
  readdirSync('/proc').filter((name) => /^\d+$/.test(name) && commandLine(name).includes(text))

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

/** The names of all cgroups that `run` made, in whatever hierarchy this machine has. */
function cgroups(): string[] {
  const families = ['', '/unified', '/memory'].map((hierarchy) => `/sys/fs/cgroup${hierarchy}/intercede`)
  return families
    .filter((path) => existsSync(path))
    .flatMap((path) => readdirSync(path).filter((name) => /^\d+-\d+$/.test(name)))
}

/** Why no lxcfs can be mounted here; undefined if one can. */
export const lacksLxcfs = (): string | undefined =>
  missing('lxcfs') ?? (existsSync('/dev/fuse') ? undefined : 'there is no /dev/fuse')

/**
 * Mounts lxcfs at $1/lxcfs while a command runs. It answers nobody if it may not look at process 1, as on a machine whose
 * root lacks a capability: in a mount namespace of its own it sees a file of its own there.
 */
const BESIDE_LXCFS = `mount --make-rprivate / && mkdir -p "$1/lxcfs" && cd "$1" && shift
mount --bind lxcfs lxcfs && mount --make-shared lxcfs
setpriv --pdeathsig KILL unshare --mount --propagation unchanged sh -c 'mount --bind /proc/$$/personality /proc/1/personality
exec lxcfs -f -p "$PWD/pid" --runtime-dir "$PWD/run" "$PWD/lxcfs"' >log 2>&1 & served=$!
for n in $(seq 100); do [ -s lxcfs/proc/meminfo ] && break; sleep 0.1; done
"$@"; status=$?
kill $served; wait $served; exit $status`

/** The words of a command that runs beside lxcfs. @param scratch a directory */
export const withLxcfs = (scratch: string, command: readonly string[]): readonly string[] => [
  ...['unshare', '--mount', 'bash', '-c', BESIDE_LXCFS, 'sh', scratch],
  ...command,
]

/** Runs a command beside lxcfs to its end. */
export function besideLxcfs(scratch: string, command: readonly string[]): Ended {
  const [program = '', ...words] = withLxcfs(scratch, command)
  return spawnSync(program, words, { input: '', encoding: 'utf8', timeout: 60_000 })
}
