import { Socket } from 'node:net'
import { dirname } from 'node:path'
import { openDirectories } from '../../doctor/own-files.ts'
import { now } from '../../kernel/clock.ts'
import type { LogLevel } from '../../policy/config.ts'
import { nriMessages as messages, NRI_EVENTS, NriConnection, type NriCreation, NriRefusal } from '../../runtimes/nri.ts'
import { briefly, oneLine } from '../../shared/texts.ts'
import { adjustedPolicy, type NriNode, wantedProfile } from './nri-adjustment.ts'

/** By this name, Pods require the plugin. */
const NAME = 'intercede'
/** Plugins are asked in the order of these two digits. */
const INDEX = '90'
/** Longest wait for the answer to the registration. Others may register before; to synchronise may take far longer. */
const REGISTER_MS = 10_000
const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 2000

interface NriOptions {
  /** Returns what the node gives now: a reload may have changed it. */
  node(): NriNode
  log(level: LogLevel, message: string, details: Readonly<Record<string, unknown>>): void
  /** Hears why a container is refused. */
  refused(message: string): void
}

/**
 * The plugin of a runtime's Node Resource Interface (NRI): the runtime asks it for each container that it creates, and
 * it sets the seccomp policy of those whose Pods name a profile.
 *
 *   state        event                                        next
 *   off          use() with a path                            connecting
 *   connecting   connected                                    registering
 *   registering  the runtime has synchronised                 registered: a log line says so
 *   registering  no answer within REGISTER_MS                 waiting
 *   any but off  the connection ends or cannot be made        waiting: a log line says why, the first time
 *   waiting      the pause is over                            connecting
 *   any          use() without a path, or close()             off
 *
 * The pause doubles each time, up to LONGEST_PAUSE_MS, until a connection has lasted for longer than that.
 *
 * A runtime that gets no answer in time goes on without the plugin. So it is a validator too: the runtime creates no
 * container if a validator does not answer.
 */
export class NriPlugin {
  readonly #options: NriOptions
  #path: string | undefined
  #socket: Socket | undefined
  #timer: NodeJS.Timeout | undefined
  #pause = FIRST_PAUSE_MS
  #isAway = false
  #registeredAt = Number.POSITIVE_INFINITY
  #runtime = ''

  constructor(options: NriOptions) {
    this.#options = options
  }

  /** Serves the runtime that has its socket there; none without a path. */
  use(path: string | undefined): void {
    if (path === this.#path) return
    this.close()
    this.#path = path
    if (path !== undefined) this.#connect(path)
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#socket?.destroy()
    this.#socket = undefined
    this.#path = undefined
    this.#pause = FIRST_PAUSE_MS
    this.#isAway = false
  }

  #connect(path: string): void {
    const socket = new Socket()
    this.#socket = socket
    let why = 'the runtime has closed the connection'
    socket.on('error', ({ message }) => {
      why = message
    })
    socket.on('close', () => this.#again(socket, path, why))
    socket.on('connect', () => {
      this.#timer = setTimeout(() => socket.destroy(new Error('the runtime does not register the plugin')), REGISTER_MS)
      const request = messages.RegisterPluginRequest.encode({ pluginName: NAME, pluginIdx: INDEX })
      new NriConnection(socket, this.#handlers)
        .call('nri.pkg.api.v1alpha1.Runtime', 'RegisterPlugin', request)
        .then(() => clearTimeout(this.#timer))
        .catch((error: Error) => socket.destroy(error))
    })
    try {
      const open = openDirectories([dirname(path)])
      if (open !== undefined) throw new Error(`other users could replace the socket: ${open}`)
      socket.connect(path)
    } catch (error) {
      socket.destroy(error as Error)
    }
  }

  #again(socket: Socket, path: string, why: string): void {
    if (socket !== this.#socket) return
    clearTimeout(this.#timer)
    if (!this.#isAway) this.#options.log('warn', 'the NRI plugin is not registered', { socket: path, why })
    this.#isAway = true
    if (now() - this.#registeredAt > LONGEST_PAUSE_MS) this.#pause = FIRST_PAUSE_MS
    this.#registeredAt = Number.POSITIVE_INFINITY
    this.#timer = setTimeout(() => this.#connect(path), this.#pause)
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE_MS)
  }

  readonly #handlers = {
    Configure: (payload: Uint8Array): Uint8Array => {
      const { runtimeName, runtimeVersion, nriVersion } = messages.ConfigureRequest.decode(payload)
      this.#runtime = oneLine(`${runtimeName} ${runtimeVersion}`.slice(0, 100))
      const { createContainer, validateContainerAdjustment } = NRI_EVENTS
      // NRI 0.12 has told its version since it reports policies. A runtime refuses a plugin with events that it lacks.
      const validates = nriVersion === '' ? 0 : validateContainerAdjustment
      return messages.ConfigureResponse.encode({ events: createContainer | validates })
    },
    // The containers that run already have their filters.
    Synchronize: (payload: Uint8Array): Uint8Array => {
      const { more } = messages.SynchronizeRequest.decode(payload)
      if (!more) this.#registered()
      return messages.SynchronizeResponse.encode({ more })
    },
    CreateContainer: (payload: Uint8Array): Uint8Array => {
      const creation = messages.CreateContainerRequest.decode(payload)
      const name = wantedProfile(creation)
      if (name === undefined) return new Uint8Array()
      const seccompPolicy = this.#orRefuse(name, creation, () => adjustedPolicy(name, creation, this.#options.node()))
      return messages.CreateContainerResponse.encode({ adjust: { linux: { seccompPolicy } } })
    },
    ValidateContainerAdjustment: (payload: Uint8Array): Uint8Array => {
      const { adjust, ...creation } = messages.ValidateContainerAdjustmentRequest.decode(payload)
      const isOurs = adjust?.linux?.seccompPolicy?.listenerPath === this.#options.node().socketPath
      if (isOurs || wantedProfile(creation) === undefined) return new Uint8Array()
      const reason = 'Intercede was not asked in time to serve this container'
      return messages.ValidateContainerAdjustmentResponse.encode({ reject: true, reason })
    },
    Shutdown: (): Uint8Array => new Uint8Array(),
  }

  #registered(): void {
    this.#registeredAt = now()
    this.#isAway = false
    this.#options.log('info', 'the NRI plugin is registered', { socket: this.#path, runtime: this.#runtime })
  }

  /** Says for which container and profile a refusal is, to the runtime and to the log. */
  #orRefuse<T>(name: string, { pod, container }: NriCreation, adjust: () => T): T {
    try {
      return adjust()
    } catch (error) {
      if (!(error instanceof NriRefusal)) throw error
      const place = `container ${briefly(container?.name)} of Pod ${briefly(`${pod?.namespace}/${pod?.name}`)}`
      const message = oneLine(`Cannot give ${place} the profile ${briefly(name)}: ${error.message}`)
      this.#options.refused(message)
      throw new NriRefusal(`Intercede: ${message}`)
    }
  }
}
