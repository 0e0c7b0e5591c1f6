import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { Dev } from '../../abi/brand.ts'
import type { Cap } from '../../abi/credentials.ts'
import { formatProfile, type OciSeccomp } from '../../filter/oci.ts'
import { orElse, orUndefined } from '../../kernel/error.ts'
import { spawnsInto } from '../../kernel/exec.ts'
import { mount } from '../../kernel/mount.ts'
import { parseMountinfo } from '../../kernel/procfs/mountinfo.ts'
import { opensHost } from '../../policy/devices.ts'
import { Child, shellStatus } from '../../processes/child.ts'
import { enterOwnMounts } from '../../processes/own-mounts.ts'
import { programFiles } from '../../processes/program-files.ts'
import { initOf } from '../recorded.ts'
import { STOP_SECONDS } from '../runtime.ts'
import { makeDirectory } from '../text-file.ts'
import { Cgroup, cgroupsPath, openHierarchies, placeCgroup, removeLeftovers } from './cgroup.ts'
import { startGuard } from './guard.ts'
import { hostFileSystems } from './host-tree.ts'
import { hasStarted, underInit } from './init.ts'
import { ociConfig } from './oci-config.ts'
import { pipes, StartWords, type Stdio, writeError } from './pipes.ts'
import { type LaunchOptions, type Plan, planLaunch } from './plan.ts'
import { buildRoot, ruleFor } from './root.ts'
import { errorsIn, exitStatus, mustHaveStarted, openFilesLimit, ownBoundingSet, pollUntil } from './runtime.ts'
import { forwardSignals, Suspension } from './signals.ts'
import {
  consoleSize,
  consoleTerminal,
  hasTerminal,
  insistence,
  type KeyWatch,
  keepTerminal,
  onCtrlZ,
  terminal,
} from './terminal.ts'
import { BASE, layout, openDirectory } from './tree.ts'

/** The status of a command that has ended well, but whose output nobody can read. */
const OUTPUT_LOST = 125

/** How long the output of a container that was killed may take to be read, in milliseconds. */
const UNREAD_MS = 1000

/** The socket to which the seccomp profile's `listenerPath` must point. */
export const AGENT_SOCKET: string = layout.agent

/**
 * Runs a command in a container and returns its exit status; 125, 126 and 127 mean the same as podman's. All mounts
 * are in a private mount namespace that ends with this process, so only the cgroup and the agent must be ended
 * explicitly. If this process is killed, the guard ends the cgroup, and the agent's engine ends by itself.
 *
 * @throws {Error} one sentence, for exit status 125
 */
export async function launch(options: LaunchOptions): Promise<number> {
  // The ids of containers must get to what is made for them, whatever mask our caller has.
  process.umask(0o022)
  const plan = planLaunch(options)
  enterPrivateMounts(plan)
  const hierarchies = openHierarchies()
  const { say = () => {} } = options
  removeLeftovers(hierarchies, say)
  const place = placeCgroup(hierarchies, options.memory)
  // The guard is there before what it guards: this process may be killed at any moment.
  using guard = startGuard(place.paths, hasTerminal() ? process.stdin.fd : undefined)
  using cgroup = new Cgroup(place, options.memory, say)
  keepTerminal(guard)
  // The agent's engine takes as long to start as the container; a call that comes before it is ready waits.
  const runtime = { program: plan.runtime.path, options: ['--root', layout.state], env: {} }
  const agent = options.startAgent?.(AGENT_SOCKET, runtime)
  agent?.ready.catch(() => cgroup.kill())
  try {
    await buildRoot(plan)
    return await runContainer(plan, cgroup)
  } finally {
    cgroup.kill()
    await agent?.close()
  }
}

async function runContainer(plan: Plan, cgroup: Cgroup): Promise<number> {
  const isTerminal = hasTerminal()
  writeBundle(plan, cgroup, isTerminal)
  const { known } = plan.runtime
  const init = (): number | undefined => initOf(known.record, `${layout.state}/${cgroup.name}`)
  using suspension = new Suspension(cgroup, init)
  const words = new StartWords(() => errorsIn(runtimeLog()).length > 0)
  const watch = plan.init === undefined ? insistence() : onCtrlZ(() => suspension.afterKey())
  const onResize = (): void => void runtime.kill('SIGWINCH')
  using stdio = isTerminal ? terminalFor(plan, { onResize, watch, words }) : pipes(plan.ids, words)
  const runtime = startRuntime(plan.runtime.path, cgroup, stdio)
  const ended = (): boolean => runtime.isOver
  const isReady = (): boolean => plan.init === undefined || hasStarted(init())
  async function forward(signal: NodeJS.Signals | number): Promise<void> {
    await pollUntil(() => isReady() || undefined, ended)
    runtime.kill(signal)
  }
  const patienceMs = 1000 * (plan.options.stopSeconds ?? STOP_SECONDS)
  const end = plan.options.systemd ? SYSTEMD_HALT : undefined
  // Nobody may read what the container has written. Who wants it killed does not wait for that.
  let giveUp = (_why: string): void => {}
  const unread = new Promise<string>((resolve) => {
    giveUp = resolve
  })
  const kill = (): void => {
    cgroup.kill()
    void status.then(() => setTimeout(giveUp, UNREAD_MS, 'nobody reads it'))
  }
  using _signals = forwardSignals({ forward, kill }, { patienceMs, end })
  // If the runtime itself is killed, the container must not live on.
  const status = runtime.ended.then(shellStatus).finally(() => cgroup.kill())
  const [own, lost] = await Promise.all([status, Promise.race([stdio.relay(ended), unread])])
  const ofCommand = exitStatus(own, runtimeLog(), known, plan.options)
  mustHaveStarted(ofCommand, words.ofInit, plan.options)
  await writeError(words.release())
  if (lost === undefined) return ofCommand
  plan.options.say?.(`Cannot write the output of the command: ${lost}; send it to a place that has room`)
  return ofCommand || OUTPUT_LOST
}

interface Terminal {
  readonly onResize: () => void
  readonly watch: KeyWatch
  readonly words: StartWords
}

function terminalFor({ runtime, ids }: Plan, { onResize, watch, words }: Terminal): Stdio {
  return runtime.known.sendsTerminal ? consoleTerminal(ids, watch, words) : terminal(onResize, watch, words)
}

const runtimeLog = (): string => orElse('', () => readFileSync(layout.log, 'utf8'))

/** Limits in bytes and inodes of the tmpfs, which holds all that a container writes to its default root. */
const LIMITS = 'size=25%,nr_inodes=1m'
/** The programs that `run`, its engine and helpers start, besides the runtime. */
const PROGRAMS = ['cat', 'choom', 'find', 'nsenter', 'rmdir', 'setpriv', 'sh', 'sleep', 'stty', 'timeout', 'unshare']
/** Directories of pseudo file systems, which nobody unmounts in order to remove a disk. */
const KERNELS = ['/proc', '/sys', '/dev']

/**
 * Moves the main thread, and every program that it starts later, into a mount namespace with an empty tmpfs on BASE
 * and only those mounts of the host that the container shows or we need. The working directory is then `/`.
 *
 * Threads that run already stay outside: from here on no asynchronous call of `fs` may name a path.
 */
function enterPrivateMounts({ rootfs, binds, runtime, init, options: { files = [] } }: Plan): void {
  makeDirectory(BASE)
  // The copies are made first: a handle of a mount of another mount namespace is good for nothing.
  for (const { tree } of [...(rootfs === undefined ? [] : [rootfs]), ...binds]) tree.detach()
  const shown = rootfs === undefined ? hostPoints() : []
  enterOwnMounts(
    [
      ...shown,
      BASE,
      runtime.path,
      ...(init === undefined ? [] : [init]),
      ...programFiles(PROGRAMS),
      ...files.map(({ source }) => source),
    ],
    KERNELS,
  )
  mount('tmpfs', BASE, 0n, `mode=0711,${LIMITS}`)
  for (const directory of [layout.root, layout.layers, layout.fresh, layout.bundle, layout.state]) {
    mkdirSync(directory, { mode: 0o711 })
  }
}

const hostPoints = (): readonly string[] =>
  hostFileSystems(parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'))).map(({ point }) => point)

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const environment = (terminal: boolean, extra: readonly string[]): string[] => [
  `PATH=${PATH}`,
  'HOME=/root',
  'LANG=C.UTF-8',
  'container=intercede',
  ...(terminal ? [`TERM=${process.env.TERM ?? 'xterm'}`] : []),
  ...extra,
]

/** Returns those of the devices that may be made which may be opened too. */
const openable = (devices: Iterable<Dev>): Dev[] => [...devices].filter((dev) => !opensHost.has(dev))

const ROOT = { uid: 0, gid: 0 }

/** With these, units of systemd try what fails in a container (ConditionCapability=), and its state is degraded. */
const TEMPTING: ReadonlySet<Cap> = new Set(['SYS_MODULE', 'SYS_RAWIO'])

/** SIGRTMIN+3 of the GNU C library: systemd(1) halts. On SIGTERM it would start again. */
const SYSTEMD_HALT = 37

/** Formats as JSON with exact 64-bit numbers, which a seccomp filter has. */
const exactJson = (config: object): string => formatProfile(config as OciSeccomp)

/** Writes the bundle that the runtime reads. */
function writeBundle({ options, runtime, init, ids, rootfs, devices }: Plan, cgroup: Cgroup, terminal: boolean): void {
  const { command, name = 'intercede', env = [], workdir, user = ROOT, net = 'none', policyDevices = [] } = options
  const { systemd = false, files = [] } = options
  const config = ociConfig({
    name,
    args: init === undefined ? command : underInit(command),
    env: environment(terminal, env),
    cwd: workdir ?? (rootfs === undefined ? '/root' : '/'),
    user,
    terminal,
    consoleSize: terminal ? consoleSize() : undefined,
    root: layout.root,
    ids,
    caps: ownBoundingSet().filter((cap) => !systemd || !TEMPTING.has(cap)),
    net,
    systemd,
    cgroupsPath: cgroupsPath(cgroup.name),
    files,
    devices: [...devices, ...openable(policyDevices).map((dev) => ({ kind: 'c' as const, dev }))].map(ruleFor),
    memory: cgroup.runtimeMemory,
    openFiles: openFilesLimit(),
    seccomp: options.seccomp?.(runtime.known.target),
  })
  writeFileSync(`${layout.bundle}/config.json`, exactJson(config))
}

/** A shell that joins cgroups before it executes the runtime, so that no process of the container is ever outside. */
const JOIN = 'while [ "$1" != -- ]; do echo $$ >"$1" || exit 125; shift; done; shift; exec "$@"'

type Command = readonly [string, ...string[]]
type Options = Pick<ConstructorParameters<typeof Child>[1], 'fds' | 'env'>

const joining = (groups: readonly string[], run: Command): Command =>
  groups.length === 0
    ? run
    : ['/bin/sh', '-c', JOIN, 'sh', ...groups.map((path) => `${path}/cgroup.procs`), '--', ...run]

/** By these systemd tells a service of its sockets, and a runtime would show them to the container. */
const OF_SERVICE: ReadonlySet<string> = new Set(['NOTIFY_SOCKET', 'LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES'])

/**
 * Starts the runtime in the foreground: it stays the container's parent, passes signals on and ends with its status.
 *
 * @throws {SyscallError} if it cannot be started
 */
function startRuntime(runtime: string, cgroup: Cgroup, stdio: Stdio): Child {
  const log = ['--log', layout.log, '--log-format', 'json']
  const options = ['--root', layout.state, ...log, 'run', '--bundle', layout.bundle, ...stdio.args]
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !OF_SERVICE.has(name)))
  return startInside(cgroup, [runtime, ...options, cgroup.name], { fds: stdio.ends, env })
}

/** The process begins in its cgroup, if it can: for one that moves there the kernel waits for all processors. */
function startInside({ beside, limited }: Cgroup, run: Command, options: Options): Child {
  using cgroup = openDirectory(beside)
  const started = orUndefined('any', () => spawnsInto && new Child(joining(limited, run), { ...options, cgroup }))
  return started || new Child(joining([beside, ...limited], run), options)
}
