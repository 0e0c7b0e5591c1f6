import { existsSync, readFileSync, readlinkSync, realpathSync, statSync } from 'node:fs'
import { basename, join, normalize } from 'node:path'
import { serialize } from 'node:v8'
import * as v from 'valibot'
import { AT_FDCWD, O_RDONLY } from '../abi/fcntl.ts'
import type { Exec } from '../calls/fuse.ts'
import { orElse } from '../kernel/error.ts'
import type { Fd, Handle } from '../kernel/fd.ts'
import { openat } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { pidfdIsAlive } from '../kernel/pidfd.ts'
import { statusField } from '../kernel/procfs/status.ts'
import { peerProcess } from '../kernel/socket.ts'
import { readBundle } from './bundle.ts'
import type { Handover } from './handover.ts'
import { ociRuntimes } from './known/index.ts'
import { type OciRuntime, which } from './runtime.ts'

/** A runtime, and the options and environment with which it finds its containers. */
export interface RuntimeCall {
  readonly program: string
  /** The options before the command. */
  readonly options: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** The runtime's mount namespace; undefined if it is ours. */
  readonly mounts?: Fd | undefined
}

/** Environment variables that decide where a runtime looks for containers by default. */
const VARIABLES = ['XDG_RUNTIME_DIR']

/** Returns the options of a runtime's command line that apply to all of its commands. */
export function sharedOptions(
  argv: readonly string[],
  { values, words }: OciRuntime['sharedOptions'],
): readonly string[] {
  const options: string[] = []
  for (const [index, word] of argv.entries()) {
    const [name = '', value] = word.split('=', 2)
    if (words.includes(word)) options.push(word)
    else if (values.includes(name)) options.push(name, value ?? argv[index + 1] ?? '')
    else if (COMMANDS.has(word) && !values.includes(argv[index - 1] ?? '')) break
  }
  return options
}
const COMMANDS: ReadonlySet<string> = new Set(['create', 'run', 'start', 'restore', 'exec'])

/**
 * Returns the directory in which a runtime keeps its containers. An id is one container's in one such directory only:
 * namespaces of containerd, for instance, are directories of runc, and each may have a container `web`.
 *
 * @returns undefined if it cannot be told
 */
export function stateDirectoryOf({ program, options }: RuntimeCall): string | undefined {
  const own = ociRuntimes.find(({ installed }) => installed.program === basename(program))
  const at = options.lastIndexOf('--root')
  const root = at >= 0 ? options[at + 1] : own && join('/run', own.record.root)
  if (!root?.startsWith('/')) return undefined
  // It may be in another mount namespace.
  return orElse(normalize(join(root, '/')).slice(0, -1), () => realpathSync(root))
}

/**
 * Returns the runtime at the other end of a connection, as it is while it connects, since later it is gone.
 *
 * @returns undefined for an unknown program, or if it ended before all of it was read
 */
export function runtimeOf(connection: Handle): RuntimeCall | undefined {
  using peer = peerProcess(connection)
  if (!peer) return undefined
  try {
    const call = look(peer.pid)
    // What was read by its number is the runtime's if it still has this number.
    if (call && pidfdIsAlive(peer.pidfd)) return call
    call?.mounts?.[Symbol.dispose]()
  } catch {
    // The runtime has ended.
  }
  return undefined
}

function look(pid: number): RuntimeCall | undefined {
  const listOf = (name: string): string[] => readFileSync(`/proc/${pid}/${name}`, 'utf8').split('\0').slice(0, -1)
  const [own = '', ...argv] = listOf('cmdline')
  const found = findProgram(`/proc/${pid}/exe`, own)
  if (!found) return undefined
  const env = listOf('environ').map((entry) => entry.split('=', 2) as [string, string])
  const isElsewhere = readlinkSync(`/proc/${pid}/ns/mnt`) !== readlinkSync('/proc/self/ns/mnt')
  return {
    program: found.program,
    options: sharedOptions(argv, found.runtime.sharedOptions),
    env: Object.fromEntries(env.filter(([key]) => VARIABLES.includes(key))),
    mounts: isElsewhere ? openat(AT_FDCWD, cstring(`/proc/${pid}/ns/mnt`), O_RDONLY) : undefined,
  }
}

interface Found {
  readonly runtime: OciRuntime
  readonly program: string
}

/** What /proc/PID/exe shows for each runtime. */
const SHOWN = ociRuntimes.map((runtime) => {
  const { copy, installed } = runtime
  return { runtime, exe: new RegExp(`(?:^|[/:])(?:${installed.program}(?:$| \\(deleted\\)$)|${copy}\\b)`) }
})

/**
 * Returns the path of a runtime. It may run from a copy of its own in memory or, as rootless crun does, from a
 * detached mount, where /proc/PID/exe shows "/".
 */
function findProgram(exe: string, own: string): Found | undefined {
  const file = readlinkSync(exe)
  const runtime = SHOWN.find((shown) => shown.exe.test(file))?.runtime
  if (!runtime) return findByInode(exe, own)
  const { program: name } = runtime.installed
  const program = [file, own].find((path) => basename(path) === name && isFile(path)) ?? which(name)
  return program === undefined ? undefined : { runtime, program }
}

function findByInode(exe: string, own: string): Found | undefined {
  const { dev, ino } = statSync(exe)
  const isIt = (path: string): boolean => {
    const there = statSync(path, { throwIfNoEntry: false })
    return there?.dev === dev && there.ino === ino
  }
  return SHOWN.flatMap(({ runtime, exe: shown }): readonly Found[] =>
    [own, which(runtime.installed.program)]
      .filter((path): path is string => path !== undefined && shown.test(path))
      .map((program) => ({ runtime, program })),
  ).find(({ program }) => isFile(program) && isIt(program))
}

const isFile = (path: string): boolean => path.startsWith('/') && existsSync(path)

const Config = v.object({
  process: v.object({
    env: v.optional(v.array(v.string()), []),
    apparmorProfile: v.optional(v.string()),
    selinuxLabel: v.optional(v.string()),
  }),
})
/** Maximum size in bytes; with the container's other data it must fit into one message to the engine. */
const CONFIG_LIMIT = 64 * 1024

/** Returns how to start a program in a container that is being created; undefined if this is unknown. */
export function execFor({ bundle, pid }: Handover, runtime: RuntimeCall | undefined): Exec | undefined {
  const process = runtime && readBundle(bundle, Config)?.process
  if (!process) return undefined
  return orElse(undefined, () => {
    const filters = statusField(readFileSync(`/proc/${pid}/status`, 'latin1'), 'Seccomp_filters')
    const { program, options, env } = runtime
    const exec = { program, options, env, process, filters: Number(filters) }
    // As it is sent: one character beyond Latin-1 makes every one of its text two bytes.
    return serialize(exec).length > CONFIG_LIMIT ? undefined : exec
  })
}
