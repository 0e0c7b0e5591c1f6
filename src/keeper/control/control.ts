import { setTimeout as pause } from 'node:timers/promises'
import * as v from 'valibot'
import type { ContainerNumbers } from '../../caller/identity/container.ts'
import { orElse } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { ToEngine } from '../../link/messages.ts'
import { type Admission, keptOf, unusable } from '../containers/admission.ts'
import type { ContainerEntry, Registry } from '../containers/registry.ts'
import type { Feed } from '../feed/feed.ts'
import { changedKeys } from '../log/effective-keys.ts'
import type { PersistedState } from '../persist/persisted-state.ts'
import type { ChangedContainer, KeeperEvent, KeeperOptions, Reloaded } from '../process/events.ts'
import type { Reactor } from '../process/reactor.ts'
import { type Administrator, answer, ControlSocket } from './control-socket.ts'
import { type PolicyChange, planChange, planReload, type ReloadPlan, requirePolicies } from './live-policy.ts'
import {
  CONTROL_VERSION,
  type ControlRequest,
  type OrderAnswer,
  type ReloadAnswer,
  type SetAnswer,
  type SetRequest,
} from './protocol.ts'

const text = v.pipe(v.string(), v.maxLength(4096))
const id = v.pipe(v.string(), v.minLength(1), v.maxLength(1024))
const KEYS = 64
/** How long whoever sets keys waits for the engine to use them: it needs milliseconds, unless it hangs. */
const ENGINE_MS = 1200

const Request = v.variant('type', [
  v.strictObject({
    version: v.literal(CONTROL_VERSION),
    type: v.literal('set'),
    container: id,
    serial: v.pipe(v.number(), v.integer(), v.minValue(1)),
    set: v.pipe(v.record(text, text), v.maxEntries(KEYS)),
    unset: v.pipe(v.array(text), v.maxLength(KEYS)),
  }),
  v.strictObject({
    version: v.literal(CONTROL_VERSION),
    type: v.literal('reload'),
    dry: v.boolean(),
    force: v.optional(v.boolean(), false),
  }),
  v.strictObject({
    version: v.literal(CONTROL_VERSION),
    type: v.literal('stop'),
    container: id,
    signal: v.picklist(['SIGTERM', 'SIGKILL']),
  }),
])

const json = (bytes: string): unknown => orElse(undefined, () => JSON.parse(bytes))

/**
 * @throws {Error} with what is wrong in the request
 */
function parseRequest(bytes: string): ControlRequest {
  const given = json(bytes)
  if (typeof given !== 'object' || given === null) throw new Error('Cannot read the request: it is no object of JSON')
  const { version } = given as { readonly version?: unknown }
  if (version !== CONTROL_VERSION)
    throw new Error(
      `Cannot read the request: it has version ${JSON.stringify(version)?.slice(0, 16)}, and this daemon takes ${CONTROL_VERSION}; use the daemon's own intercede`,
    )
  const checked = v.safeParse(Request, given, { abortEarly: true })
  if (checked.success) return checked.output
  const [issue] = checked.issues
  throw new Error(`Cannot read the request: ${v.getDotPath(issue) ?? 'it'} is not what it must be`)
}

interface ControlDependencies {
  readonly options: KeeperOptions
  readonly registry: Registry
  readonly state: PersistedState
  readonly admission: Admission
  readonly feed: Feed
  /** Tells the engine. @returns false if there is none now: the next one is told of all containers */
  tell(message: ToEngine): boolean
}

/** A client that gets its answer when the engine uses the changed policy. */
interface PolicyWaiter extends ContainerNumbers {
  readonly holds: () => void
}

/** Executes an administrator's orders from control.sock. */
export class Control {
  readonly #dependencies: ControlDependencies
  readonly #waiters: PolicyWaiter[] = []
  /** The clients that wait for the end of a reload that the previous program began, and what it has changed so far. */
  readonly #askers: Fd[]
  readonly #changed: ChangedContainer[] = []
  readonly #warnings: string[] = []
  #socket: ControlSocket | undefined

  constructor(dependencies: ControlDependencies) {
    this.#dependencies = dependencies
    this.#askers = [...dependencies.state.askers()]
  }

  /** @throws {Error} if the path is in use */
  listen(reactor: Reactor, path: string | undefined): void {
    if (path === undefined) return
    const { state, options } = this.#dependencies
    this.#socket = new ControlSocket(reactor, path, state, {
      obey: (...said) => this.#obey(...said),
      refuse: (message) => options.onEvent({ type: 'refused', message }),
    })
  }

  /** Notes what has changed for the containers of the previous keeper. */
  note(event: KeeperEvent): void {
    if (this.#askers.length === 0) return
    if (event.type === 'refused') this.#warnings.push(event.message)
    if (event.type !== 'resumed') return
    const { id, before, settings, policy, traps } = event
    const changed = changedKeys(before, settings, policy, traps)
    if (changed) this.#changed.push({ container: id, keys: changed })
  }

  /** Answers the clients that wait for the end of a reload: the new program's engine serves. */
  serves(): void {
    this.engineEnded()
    for (const asker of this.#askers.splice(0)) {
      const { registry } = this.#dependencies
      answer(asker, { answer: { containers: registry.size, changed: this.#changed, warnings: this.#warnings } })
      asker[Symbol.dispose]()
    }
  }

  /** The engine uses the policy that it was told. */
  policyHolds({ index, serial }: ContainerNumbers): void {
    const at = this.#waiters.findIndex((each) => each.index === index && each.serial === serial)
    if (at >= 0) this.#waiters.splice(at, 1)[0]!.holds()
  }

  /** The next engine is told of all containers as they are now, before it serves. */
  engineEnded(): void {
    for (const { holds } of this.#waiters.splice(0)) holds()
  }

  close(): void {
    this.#socket?.close()
    this.engineEnded()
  }

  async #obey(bytes: string, from: Administrator, connection: Fd): Promise<OrderAnswer> {
    const request = parseRequest(bytes)
    if (request.type === 'set') return this.#set(request, from)
    if (request.type === 'stop') {
      this.#dependencies.options.onEvent({
        type: 'stopOrdered',
        id: request.container,
        signal: request.signal,
        ...from,
      })
      return {}
    }
    const isForced = request.force === true
    if (request.dry) return this.#dryRun(isForced)
    this.#dependencies.options.onEvent({ type: 'reloadOrdered', ...from, isForced })
    return this.#reload(connection, isForced)
  }

  async #set(request: SetRequest, { by, who }: Administrator): Promise<SetAnswer> {
    const { registry, admission, options } = this.#dependencies
    const { container: id, serial } = request
    const entry = [...registry.entries].find(({ container }) => container.id === id && container.serial === serial)
    if (!entry) throw new Error(`Cannot set keys of container ${id}: it ended meanwhile`)
    let change: ReturnType<typeof planChange>
    try {
      change = planChange(entry, request, by, (...said) => admission.say(...said))
    } catch (error) {
      throw new Error(`Cannot set keys of container ${id}: ${(error as Error).message}`)
    }
    const { changed, news } = change
    const holds = this.#make(entry, change)
    options.onEvent({ type: 'set', id, by, who, settings: entry.settings, changed })
    const isPending = await Promise.race([holds, pause(ENGINE_MS, true, { ref: false })])
    return { changed, warnings: news, ...(isPending ? { isPending } : {}) }
  }

  /** Makes a change at once. @returns once the engine uses it */
  #make(entry: ContainerEntry, { said, set, withheld, warnings, ignored }: PolicyChange): Promise<void> {
    const { registry, feed } = this.#dependencies
    registry.change(entry, said, set)
    const holds = this.#tell(entry)
    this.#store(entry)
    feed.set(entry, { withheld, warnings, ignored })
    return holds
  }

  /** Stores a change for the next keeper. The engine uses the change even if it cannot be stored. */
  #store(entry: ContainerEntry): void {
    const { state, registry, options } = this.#dependencies
    try {
      if (entry.handover.isLate) state.keepLxcSets(registry.lxcSets)
      else state.renewContainer(keptOf(entry))
    } catch (error) {
      const message = `Cannot store what has changed of container ${entry.container.id}: ${(error as Error).message}`
      options.onEvent({ type: 'fault', message })
    }
  }

  #tell({ container: { index, serial, policy, ofUser, barred } }: ContainerEntry): Promise<void> {
    const { tell } = this.#dependencies
    return new Promise((holds) => {
      const part = { policy, ...(ofUser ? { ofUser } : {}), ...(barred ? { barred } : {}) }
      if (tell({ type: 'policy', container: { index, serial }, said: part }))
        this.#waiters.push({ index, serial, holds })
      else holds()
    })
  }

  /** @throws {Error} if running containers would lose their policy by another configuration */
  requirePolicies(resolve: KeeperOptions['resolve']): void {
    this.#require(this.#plan(resolve))
  }

  /**
   * Decides again about all containers, by the configuration that `resolve` now uses.
   *
   * @returns what has changed, once the engine uses it
   * @throws {Error} if that cannot be found out; nothing has changed then
   */
  apply(): Promise<Reloaded> {
    const { options, feed } = this.#dependencies
    const plans = this.#plan(options.resolve)
    const made = plans.map(({ entry, change, wrong }) => {
      const { container, handover, settings: before } = entry
      const holds = change && this.#make(entry, change)
      const { settings } = entry
      const { policy } = entry.container
      if (wrong !== undefined) options.onEvent({ type: 'refused', message: unusable(container.id, wrong) })
      options.onEvent({
        type: 'resumed',
        id: container.id,
        annotations: handover.annotations,
        before,
        settings,
        policy,
        traps: change?.traps ?? 'unknown',
      })
      return holds
    })
    feed.reloaded()
    return Promise.all(made).then(() => outcomeOf(plans))
  }

  #require(plans: readonly ReloadPlan[]): void {
    requirePolicies(plans, (entry) => this.#dependencies.feed.nameOf(entry))
  }

  #plan(resolve: KeeperOptions['resolve']): readonly ReloadPlan[] {
    const { registry, admission } = this.#dependencies
    return [...registry.entries].map((entry) =>
      planReload(entry, (handover, set) => admission.say(handover, set, resolve)),
    )
  }

  #dryRun(isForced: boolean): ReloadAnswer {
    const { registry, options } = this.#dependencies
    if (!options.readAnew) throw new Error('Cannot say what a reload would change: this keeper has no configuration')
    const { resolve, ...daemon } = options.readAnew()
    const plans = this.#plan(resolve)
    if (!isForced) this.#require(plans)
    return { containers: registry.size, ...daemon, ...outcomeOf(plans) }
  }

  /** If another program is needed, that program answers. */
  async #reload(connection: Fd, isForced: boolean): Promise<ReloadAnswer> {
    const { registry, state, options } = this.#dependencies
    if (!options.successor) throw new Error('Cannot reload: this keeper has no configuration')
    const forget = state.keepAsker(connection)
    const outcome = await options.successor.ask(isForced).finally(forget)
    if (typeof outcome === 'string') throw new Error(`Cannot reload: ${outcome}; the daemon continues unchanged`)
    return { containers: registry.size, ...outcome }
  }
}

const outcomeOf = (plans: readonly ReloadPlan[]): Reloaded => ({
  changed: plans.flatMap(({ entry, change }) =>
    change && Object.keys(change.changed).length > 0 ? [{ container: entry.container.id, keys: change.changed }] : [],
  ),
  // Also of those that have lost their keys before.
  warnings: plans.flatMap(({ entry, loses, wrong }) => {
    const why = loses ?? wrong
    return why === undefined ? [] : [unusable(entry.container.id, why)]
  }),
})
