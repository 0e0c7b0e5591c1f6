import { isDeepStrictEqual } from 'node:util'
import type { Container, ContainerHandles } from '../../caller/identity/container.ts'
import { cgroupProblem } from '../../caller/programs/cgroup-lookup.ts'
import { explain, type ReasonCode, why } from '../../calls/reasons.ts'
import { type Fd, orClose } from '../../kernel/fd.ts'
import { forUser, type Policy } from '../../policy/policy.ts'
import { defaults } from '../../policy/settings.ts'
import { trappedCalls } from '../../runtimes/bundle.ts'
import type { RuntimeCall } from '../../runtimes/exec.ts'
import type { Handover } from '../../runtimes/handover.ts'
import { type InitLook, inspect } from '../../runtimes/inspect.ts'
import { counted } from '../../shared/texts.ts'
import { rulesFor } from '../../syscalls/index.ts'
import type { EngineProcess } from '../engines/engine-process.ts'
import type { KeptContainer, PersistedState } from '../persist/persisted-state.ts'
import type { KeeperOptions, PolicyDetails, SetKey } from '../process/events.ts'
import { withoutForeign } from './annotations.ts'
import type { ContainerEntry, PolicyDecision, Registry } from './registry.ts'

/** The part of a policy that the engine serves, and the keys that are left to the kernel. */
interface RootlessServed {
  readonly policy: Policy
  readonly ofUser?: NonNullable<Container['ofUser']>
  readonly withheld: readonly string[]
}

/**
 * Reduces a policy to the part that works without privileges on the host. @param isUser whether an unprivileged user
 * runs intercede
 */
function servedRootless(policy: Policy, isUser = false): RootlessServed {
  if (!isUser) return { policy, withheld: [] }
  const { policy: left, withheld } = forUser(policy)
  const traps = (of: Policy): readonly string[] => rulesFor(of).map(({ name }) => name)
  const stays = new Set(traps(left))
  return { policy: left, withheld, ofUser: { withheld: new Set(traps(policy).filter((name) => !stays.has(name))) } }
}

/** What the engine may do for a container. */
export interface Decision {
  readonly resolved: PolicyDetails
  readonly said: PolicyDecision
  readonly withheld: readonly string[]
}

/** Whatever makes a policy unusable must not end the keeper. */
function orInvalid(resolve: () => PolicyDetails): PolicyDetails {
  try {
    return resolve()
  } catch (error) {
    return { policy: {}, details: {}, wrong: (error as Error).message }
  }
}

/** Admits containers: inspects the init that was handed over, and decides what the engine may do for the container. */
export class Admission {
  readonly #options: KeeperOptions
  readonly #registry: Registry
  readonly #tell: EngineProcess['tell']

  /** @param tell sends the engine each new container */
  constructor(options: KeeperOptions, registry: Registry, tell: EngineProcess['tell']) {
    this.#options = options
    this.#registry = registry
    this.#tell = tell
  }

  /** Finds the container of a hand-over, or adds it. An exec'd process never defines its container. */
  entry(whole: Handover, runtime: RuntimeCall | undefined, look: InitLook | undefined): ContainerEntry {
    const handover = withoutForeign(whole)
    const known = this.#registry.known(handover)
    if (known) {
      this.#options.onEvent({ type: 'joined', handover })
      return known
    }
    const before = this.#registry.partedFrom(handover)
    const { set } = before
    const { resolved, said, withheld } = this.say(handover, set)
    if (said.wrong !== undefined)
      this.#options.onEvent({ type: 'refused', message: unusable(handover.id, said.wrong), cause: 'policy' })
    const { forUser = false } = this.#options
    const starts = said.policy.mount?.fuse.size ? (this.#options.runtime ?? runtime) : undefined
    const { init, ...found } = inspect(handover, { runtime: starts, forUser, look })
    const decided = barredToo(said, found.barred)
    const [unruly, entry] = orClose(init ? [init] : [], () => [
      init && cgroupProblem(init.handles.cgroup),
      // Last, since nothing takes it back.
      this.#registry.add(handover, decided, init, before),
    ])
    entry.set = set
    announce(entry, this.#tell)
    this.#options.onEvent({
      type: 'registered',
      handover,
      barred: decided.barred,
      wrong: decided.wrong,
      unruly,
      resolved: { ...resolved, policy: said.policy },
      traps: trappedCalls(handover) ?? 'unknown',
      withheld,
    })
    return entry
  }

  /**
   * Decides what the engine may do for a container, without an event.
   *
   * @param set keys that an administrator has set while it runs
   * @param resolve resolves policies by another configuration
   */
  say(handover: Handover, set: readonly SetKey[] = [], resolve = this.#options.resolve): Decision {
    const resolved = orInvalid(() => resolve(handover, set))
    const { settings = defaults, profile, wrong } = resolved
    if (wrong !== undefined) {
      const said = { policy: {}, settings, barred: 'policyInvalid', wrong } as const
      return { resolved: { policy: {}, details: {} }, said, withheld: [] }
    }
    const { withheld, ...said } = servedRootless(resolved.policy, this.#options.forUser)
    return { resolved, said: { ...said, settings, profile }, withheld }
  }
}

/** Says that all calls of a container are left to the kernel. @param wrong why */
export const unusable = (id: string, wrong: string): string => `Cannot use the policy of container ${id}: ${wrong}`

/** The longest message: it quotes what the runtime passed on, which must not use up the directory's memory. */
const WRONG_LIMIT = 1000
/** Explains why all calls of a container are left to the kernel. @param wrong as in `ContainerEntry` */
export const explainBarred = (barred: ReasonCode, wrong?: string): ReturnType<typeof explain> => ({
  ...explain(why(barred)),
  ...(wrong === undefined ? {} : { says: `its policy cannot be used: ${wrong.slice(0, WRONG_LIMIT)}` }),
})

/** Adds to a policy the reason that bars its container whatever the policy is. */
export function barredToo(said: PolicyDecision, otherwise: ReasonCode | undefined): PolicyDecision {
  const barred = said.barred ?? otherwise
  return barred ? { ...said, barred } : said
}

/** Thrown if a container has reached a limit of the configuration. */
export class LimitError extends Error {}

/** @throws {LimitError} if the container has `limit` listeners already */
export function requireRoom({ container: { id }, listeners }: ContainerEntry, limit: number): void {
  if (listeners >= limit)
    throw new LimitError(
      `Cannot serve another process of container ${id}, so its calls fail with ENOSYS: ${counted(limit, 'listener')} of it ${limit === 1 ? 'is' : 'are'} served already; raise limits.listenersPerContainer in the configuration, then "intercede reload"`,
    )
}

/** Tells an engine, once per container, what it may do for that container, with the handles of its init. */
export function announce({ container, init }: ContainerEntry, tell: EngineProcess['tell']): void {
  const handles = Object.entries(init?.handles ?? {})
  const names = handles.map(([name]) => name as keyof ContainerHandles)
  const fds = handles.map(([, fd]) => fd)
  tell({ type: 'container', container, walkable: init?.walkable === true, handles: names }, fds)
}

/** What the next keeper must know of a container. */
export const keptOf = ({ container, handover, init, settings, set }: ContainerEntry): KeptContainer => {
  const { index, serial, rtHighest, mayHaveTokens } = container
  const lasting = { ...(rtHighest ? { rtHighest } : {}), ...(mayHaveTokens ? { mayHaveTokens } : {}) }
  return { index, serial, handover, init, settings, set, ...lasting }
}

/** Restores the containers of the previous keeper. Our configuration decides again what the engine may do for them. */
export function restoreContainers(
  state: PersistedState,
  registry: Registry,
  admission: Admission,
  onEvent: KeeperOptions['onEvent'],
): void {
  const fault = (message: string): void => onEvent({ type: 'fault', message })
  const leave = (number: number, container: number, fd: Fd): void => {
    fault(`Cannot serve listener ${number} on: its container ${container} is not known any more`)
    state.dropListener(number, container)
    fd[Symbol.dispose]()
  }
  for (const kept of state.containers(fault)) {
    const { handover, init, settings: before, set } = kept
    const { said } = admission.say(handover, set)
    if (said.wrong !== undefined) onEvent({ type: 'refused', message: unusable(handover.id, said.wrong) })
    const decided = barredToo(said, init ? init.barred : 'unknownContainer')
    const entry = registry.add(handover, decided, init, kept)
    const { settings } = entry
    const { id, annotations } = handover
    entry.set = set
    if (!isDeepStrictEqual(settings, before)) state.renewContainer(keptOf(entry))
    const traps = trappedCalls(handover) ?? 'unknown'
    onEvent({ type: 'resumed', id, annotations, before, settings, policy: said.policy, traps })
  }
  for (const { number, container, fd } of state.listeners()) {
    const entry = registry.at(container)
    if (entry) registry.hold(entry, fd, 'listener', number)
    else leave(number, container, fd)
  }
  for (const { container, init } of registry.tidy()) state.dropContainer(container.index, init)
  for (const [pid, set] of state.lxcSets()) registry.part(pid, set)
}
