import * as v from 'valibot'
import type { ContainerNumbers } from '../../caller/identity/container.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { ToEngine } from '../../link/messages.ts'
import type { Admission } from '../containers/admission.ts'
import type { ContainerEntry, Registry } from '../containers/registry.ts'
import type { Feed } from '../feed/feed.ts'
import { changedKeys, effectiveKeys } from '../log/effective-keys.ts'
import type { PersistedState } from '../persist/persisted-state.ts'
import type { KeeperEvent, KeeperOptions } from '../process/events.ts'
import type { Reactor } from '../process/reactor.ts'
import { answer, ControlSocket } from './control-socket.ts'
import { type PolicyChange, planChange } from './live-policy.ts'
import {
  CONTROL_VERSION,
  type ControlRequest,
  type ReloadAnswer,
  type ReloadRequest,
  type SetAnswer,
  type SetRequest,
} from './protocol.ts'

const text = v.pipe(v.string(), v.maxLength(4096))
const id = v.pipe(v.string(), v.minLength(1), v.maxLength(1024))
const KEYS = 64

const Request = v.variant('type', [
  v.strictObject({
    version: v.literal(CONTROL_VERSION),
    type: v.literal('set'),
    container: id,
    serial: v.pipe(v.number(), v.integer(), v.minValue(1)),
    set: v.pipe(v.record(text, text), v.maxEntries(KEYS)),
    unset: v.pipe(v.array(text), v.maxLength(KEYS)),
  }),
  v.strictObject({ version: v.literal(CONTROL_VERSION), type: v.literal('reload'), dry: v.boolean() }),
])

function json(bytes: string): unknown {
  try {
    return JSON.parse(bytes)
  } catch {
    return undefined
  }
}

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

export interface ControlDependencies {
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
  /** The clients that wait for the end of a reload, and what it has changed so far. */
  readonly #askers: Fd[]
  readonly #changed: ReloadAnswer['changed'][number][] = []
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

  /** Notes what a reload changes. */
  note(event: KeeperEvent): void {
    if (event.type !== 'resumed' || this.#askers.length === 0) return
    const { id, before, settings, policy, traps } = event
    const changed = before && changedKeys(before, settings, effectiveKeys(settings, policy, traps))
    if (changed) this.#changed.push({ container: id, keys: changed })
  }

  /** Answers the clients that wait for the end of a reload: the new program's engine serves. */
  serves(): void {
    for (const asker of this.#askers.splice(0)) {
      answer(asker, { answer: { containers: this.#dependencies.registry.size, changed: this.#changed } })
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

  async #obey(bytes: string, by: string, connection: Fd): Promise<SetAnswer | ReloadAnswer> {
    const request = parseRequest(bytes)
    if (request.type === 'set') return this.#set(request, by)
    return request.dry ? this.#plan() : this.#reload(request, connection)
  }

  async #set(request: SetRequest, by: string): Promise<SetAnswer> {
    const { registry, admission } = this.#dependencies
    const { container: id, serial } = request
    const entry = [...registry.entries].find(({ container }) => container.id === id && container.serial === serial)
    if (!entry) throw new Error(`Cannot set keys of container ${id}: it has ended meanwhile`)
    let change: PolicyChange
    try {
      change = planChange(entry, request, by, (...said) => admission.say(...said))
    } catch (error) {
      throw new Error(`Cannot set keys of container ${id}: ${(error as Error).message}`)
    }
    await this.#make(entry, change, by)
    return { changed: change.changed, warnings: change.news }
  }

  /** Makes a change at once. @returns once the engine uses it */
  #make(entry: ContainerEntry, { said, set, changed, warnings }: PolicyChange, by: string): Promise<void> {
    const { registry, state, feed, options, tell } = this.#dependencies
    registry.change(entry, said, set)
    const { container, handover, init, settings } = entry
    const { index, serial, id, policy, ofUser } = container
    state.renewContainer({ index, serial, handover, init, settings, set })
    feed.set(entry, warnings)
    options.onEvent({ type: 'set', id, by, settings, changed })
    return new Promise((holds) => {
      const part = { policy, ...(ofUser ? { ofUser } : {}) }
      if (tell({ type: 'policy', container: { index, serial }, said: part }))
        this.#waiters.push({ index, serial, holds })
      else holds()
    })
  }

  /** Returns what a reload would change. */
  #plan(): ReloadAnswer {
    const { registry, options } = this.#dependencies
    if (!options.readAnew) throw new Error('Cannot say what a reload would change: this keeper has no configuration')
    const resolve = options.readAnew()
    const changed = [...registry.entries].flatMap(({ container: { id }, handover, settings: before, set }) => {
      const { settings, policy } = resolve(handover, set)
      const keys = settings && changedKeys(before, settings, effectiveKeys(settings, policy))
      return keys ? [{ container: id, keys }] : []
    })
    return { containers: registry.size, changed }
  }

  /** The next program answers, unless this one continues. */
  async #reload(_: ReloadRequest, connection: Fd): Promise<never> {
    const { state, options } = this.#dependencies
    if (!options.successor) throw new Error('Cannot reload: this program cannot be replaced')
    const forget = state.keepAsker(connection)
    const why = await options.successor.ask()
    forget()
    throw new Error(`Cannot reload: ${why}; the daemon goes on as it is`)
  }
}
