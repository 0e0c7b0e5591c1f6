import { readFileSync } from 'node:fs'
import { shellStatus } from '../../processes/child.ts'
import { initOf } from '../recorded.ts'
import { buildRoot } from './build-root.ts'
import { Cgroup, placeCgroup } from './cgroup.ts'
import { consoleTerminal } from './console.ts'
import { writeBundle } from './container.ts'
import { startGuard } from './guard.ts'
import { openHierarchies } from './hierarchies.ts'
import { hasStarted } from './init.ts'
import { insistence, type KeyWatch, onCtrlZ } from './keys.ts'
import { layout } from './layout.ts'
import { removeLeftovers } from './leftovers.ts'
import { type LaunchOptions, type Plan, planLaunch } from './plan.ts'
import { pollUntil } from './poll-until.ts'
import { enterPrivateMounts } from './private-mounts.ts'
import { hasTerminal } from './raw-relay.ts'
import { keepTerminal } from './raw-terminal.ts'
import { errorsIn, exitStatus, mustHaveStarted } from './runtime.ts'
import { forwardSignals } from './signals.ts'
import { startRuntime } from './start.ts'
import { StartWords } from './start-words.ts'
import { pipes, type Stdio, writeError } from './stdio.ts'
import { STOP_SECONDS } from './stop-seconds.ts'
import { Suspension } from './suspension.ts'
import { terminal } from './terminal.ts'

/** The status of a command that has ended well, but whose output nobody can read. */
const OUTPUT_LOST = 125

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
  const plan = planLaunch(options)
  enterPrivateMounts(plan)
  const hierarchies = openHierarchies()
  removeLeftovers(hierarchies)
  const place = placeCgroup(hierarchies, options.memory)
  // The guard is there before what it guards: this process may be killed at any moment.
  using guard = startGuard(place.paths, hasTerminal() ? process.stdin.fd : undefined)
  using cgroup = new Cgroup(place, options.memory)
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
  async function forward(signal: NodeJS.Signals): Promise<void> {
    await pollUntil(() => isReady() || undefined, ended)
    runtime.kill(signal)
  }
  const patienceMs = 1000 * (plan.options.stopSeconds ?? STOP_SECONDS)
  using _signals = forwardSignals({ forward, kill: () => cgroup.kill() }, patienceMs)
  // If the runtime itself is killed, the container must not live on.
  const status = runtime.ended.then(shellStatus).finally(() => cgroup.kill())
  const [own, lost] = await Promise.all([status, stdio.relay(ended)])
  const ofCommand = exitStatus(own, runtimeLog(), known, plan.options)
  mustHaveStarted(ofCommand, words.ofInit, plan.options)
  await writeError(words.release())
  if (lost === undefined) return ofCommand
  plan.options.say?.(`Cannot write the output of the command: ${lost}; send it where there is room`)
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

function runtimeLog(): string {
  try {
    return readFileSync(layout.log, 'utf8')
  } catch {
    return ''
  }
}
