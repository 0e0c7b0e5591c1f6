import { readFileSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { syscallName } from '../abi/syscalls.ts'
import type { CallRecord } from '../calls/record.ts'
import type { SpelledArguments } from '../calls/spell.ts'
import type { Rule } from '../calls/syscall.ts'
import { requireFeatures } from '../doctor/doctor.ts'
import { targetHere } from '../doctor/probes.ts'
import { compileOci } from '../filter/compile.ts'
import { machines, type Target } from '../filter/target.ts'
import { ineffectiveHere } from '../keeper/ineffective-keys.ts'
import { Keeper } from '../keeper/keeper.ts'
import type { KeeperEvent, KeeperOptions, PolicyDetails } from '../keeper/process/events.ts'
import { deviceNames } from '../kernel/device-names.ts'
import { orElse } from '../kernel/error.ts'
import { numbersOf } from '../policy/devices.ts'
import { parseAssignment } from '../policy/key-value-lines.ts'
import type { Policy } from '../policy/policy.ts'
import { settle, toPolicy } from '../policy/settings.ts'
import { requireKernel } from '../processes/requirements.ts'
import { type FileBind, lxcfsFiles } from '../runtimes/flags.ts'
import { AGENT_SOCKET } from '../runtimes/launch/launch.ts'
import type { Agent, LaunchOptions } from '../runtimes/launch/plan.ts'
import { counted } from '../shared/texts.ts'
import { rulesFor } from '../syscalls/index.ts'
import { asUsage } from './usage.ts'

/** The calls by which a program asks for a file system. */
const ASKS: ReadonlySet<string | undefined> = new Set(['mount', 'fsopen'])

/** For an image of ext4, which most are. */
const USUAL_PROGRAM = 'fuse2fs'

/**
 * Knows what to say if a command fails that has never asked for a file system. For an image file mount(8) gives up
 * before it asks: it wants a loop device, which no container can make.
 */
class ImageHint {
  readonly #program: string | undefined
  readonly #hasDisks: boolean
  #isAsked = false

  constructor({ mount }: Policy) {
    this.#program = [...(mount?.fuse ?? [])][0]?.[1]
    this.#hasDisks = [...(mount?.allowed ?? [])].some((type) => type !== 'tmpfs')
  }

  add({ arch, nr }: CallRecord): void {
    this.#isAsked ||= ASKS.has(syscallName(arch, nr))
  }

  lines(): readonly string[] {
    if (this.#isAsked || (this.#program === undefined && !this.#hasDisks)) return []
    const asked = 'nobody asked for a file system; for an image file, of which mount(8) would make a loop device,'
    const program = this.#program ?? USUAL_PROGRAM
    const byFuse = `give the type a name of its own: -c mount.fuse=image=${program}, and mount -t image FILE DIRECTORY`
    const outside = ' make that outside, by "losetup --find --show FILE", and add --device; or'
    return [`${asked}${this.#hasDisks ? outside : ''} ${byFuse}`]
  }
}

/** The engine starts its deputy at once, too, but most commands can begin before that is there. */
const THREADS = 1
/** Limit of the wait for the engine to finish with a container that has ended. */
const PATIENCE_MS = 2000

type Interception = Pick<LaunchOptions, 'files' | 'devices' | 'policyDevices' | 'seccomp' | 'startAgent'> & {
  /** What to say if the command fails. */
  readonly hints?: () => readonly string[]
}

/** Who hears of the calls of the container, and of what else its operator should know. */
interface Audience {
  record(call: CallRecord, args: SpelledArguments | undefined, policy: Policy): void
  say(text: string): void
  /** Whether `advise` asks: it needs the arguments of calls, and turns on keys that do nothing alone. */
  readonly forAdvice?: boolean
}

/** Makes filter and keeper from the keys of `-c`; there is neither if no key traps a call. */
export function interception(
  config: readonly string[],
  names: NonNullable<KeeperOptions['names']>,
  { record, say, forAdvice = false }: Audience,
): Interception {
  const settings = asUsage(() =>
    settle(config.map((text) => [...parseAssignment(text), { kind: 'command line' }] as const)),
  )
  const policy = asUsage(() => toPolicy(settings, deviceNames))
  const rules = rulesFor(policy)
  for (const text of forAdvice ? [] : ineffectiveHere(settings)) say(text)
  if (rules.length === 0) return {}
  requireKernel()
  requireFeatures()
  const hint = new ImageHint(policy)
  function heard(call: CallRecord, args?: SpelledArguments): void {
    record(call, args, policy)
    hint.add(call)
  }
  return {
    // FUSE programs open /dev/fuse in the container.
    ...(policy.mount?.fuse.size ? { devices: ['/dev/fuse'] } : {}),
    files: policy.sysinfo ? answering(lxcfsFiles(readFileSync('/proc/self/mounts', 'latin1'))) : [],
    policyDevices: policy.mknod && numbersOf(policy.mknod.devices),
    seccomp: (target) => filter(rules, target),
    startAgent: (socketPath, runtime) =>
      startKeeper(
        { socketPath, runtime, names, passesArguments: forAdvice },
        { policy, settings, details: {} },
        { record: heard, say },
      ),
    hints: () => hint.lines(),
  }
}

/** Leaves out lxcfs if it has ended and its mount is still there: the runtime could not start the container. */
const answering = (files: readonly FileBind[] = []): readonly FileBind[] =>
  files.every(({ source }) => orElse(false, () => statSync(source).isFile())) ? files : []

function filter(rules: readonly Rule[], target: Target): object {
  const architectures = machines[process.arch]?.architectures
  if (!architectures) throw new Error(`Cannot make a filter: the architecture ${process.arch} is not supported`)
  const { flags } = targetHere(target)
  return compileOci({ rules, architectures, flags, listenerPath: AGENT_SOCKET, metadata: '' })
}

/** Starts a keeper for one container, which gets our policy whatever its id is. */
function startKeeper(
  where: Pick<KeeperOptions, 'socketPath' | 'runtime' | 'names' | 'passesArguments'>,
  resolved: PolicyDetails,
  { record, say }: { record(call: CallRecord, args?: SpelledArguments): void; say(text: string): void },
): Agent {
  const open = new OpenContainers()
  const { keeper, ready } = Keeper.open({
    ...where,
    threads: THREADS,
    resolve: () => resolved,
    onRecord: (call, _id, _hasEnded, args) => record(call, args),
    onEvent(event) {
      open.note(event)
      // If the runtime ends before the hand-over, its own error says more.
      if ((event.type === 'refused' && event.cause !== 'abandoned') || event.type === 'fault') say(event.message)
      if (event.type === 'engineEnded') say(`the engine ${event.how}, and was started again`)
      if (event.type === 'program') say(`${event.program} failed in the container: ${event.words || 'it said nothing'}`)
      if (event.type === 'recordsLost') say(`${counted(event.count, 'more call')}, too many to keep count of`)
    },
  })
  return {
    ready,
    async close() {
      // The command may have ended before the engine was there, which nobody waits for then.
      if (keeper.mayServe) await ready.then(() => open.none())
      keeper.close()
    },
  }
}

/** Counts the containers that the engine still serves: a container may end before its last call is recorded. */
class OpenContainers {
  #count = 0
  #over = (): void => {}

  note({ type }: KeeperEvent): void {
    if (type === 'registered') this.#count++
    if (type === 'ended' && --this.#count === 0) this.#over()
  }

  /** Waits until the engine has finished with all containers, for PATIENCE_MS at most. */
  async none(): Promise<void> {
    if (this.#count === 0) return
    const over = new Promise<void>((resolve) => {
      this.#over = resolve
    })
    await Promise.race([over, sleep(PATIENCE_MS, undefined, { ref: false })])
  }
}
