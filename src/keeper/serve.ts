import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import type { CallRecord } from '../calls/record.ts'
import { NULL_REMEDY, nullFlaw } from '../doctor/host-facts.ts'
import { deviceNames } from '../kernel/device-names.ts'
import { exitGroup } from '../kernel/process.ts'
import type { Config } from '../policy/config.ts'
import { keyNames } from '../policy/keys.ts'
import { effectiveLimits } from '../policy/limits.ts'
import { type Note, resolve } from '../policy/resolve.ts'
import { clamp, defaults, type Settings } from '../policy/settings.ts'
import { userState } from '../runtimes/flags.ts'
import type { Handover } from '../runtimes/handover.ts'
import { ociRuntimes } from '../runtimes/known/index.ts'
import { kubernetes } from '../runtimes/known/kubernetes.ts'
import { faultRemedy, hasFault, versionIn, which } from '../runtimes/runtime.ts'
import { shortened } from '../shared/texts.ts'
import { type AnnotatedNames, annotatedNames } from './containers/annotations.ts'
import { ineffectiveIn } from './ineffective-keys.ts'
import { Keeper } from './keeper.ts'
import { type CallLine, CallLog, FewRefusals } from './log/call-log.ts'
import { formatSetting } from './log/effective-keys.ts'
import { logEvent } from './log/event-log.ts'
import { isJournalStream, type LogKind, ownJournal } from './log/journal.ts'
import { Log } from './log/log.ts'
import type {
  DaemonChange,
  HistoryOptions,
  KeeperEvent,
  KeeperOptions,
  PolicyDetails,
  Reloaded,
  SetKey,
} from './process/events.ts'
import { ServiceManager } from './process/service-manager.ts'
import { InheritedChildren, OLD_ONE, Reexec } from './reexec.ts'
import { NriPlugin } from './sockets/nri-plugin.ts'

type Sockets = Pick<
  KeeperOptions,
  'socketPath' | 'lxcSocketPath' | 'feedSocketPath' | 'controlSocketPath' | 'forUser' | 'configPath'
> & {
  /** Where history is kept unless the configuration says otherwise; without it, none is kept. */
  readonly historyPath?: string | undefined
}

/** How long the service continues to start after a signal that ends it. */
const STARTS_MS = 5000
const FOR_USER = 'only sysinfo and mount.fuse are served, the rest is left to the kernel: a user runs intercede'

/**
 * Serves the containers of this host until a signal ends it.
 *
 * @param read reads the configuration again, for a reload, or to find out what a reload would change
 * @throws {Error} if it cannot start
 */
export function serve(sockets: Sockets, config: Config, read: () => Config): Promise<void> {
  // The threads of libuv's pool, which nothing has used yet: the reactor waits on one of them.
  process.env.UV_THREADPOOL_SIZE ??= '2'
  return new Service(sockets, config, read).start()
}

/** The most lines about refused hand-overs and orders in a minute. */
const REFUSALS = 64

/**
 * The keeper's process as a service: its signals, its log, its messages to the service manager, and its exit.
 *
 *   state     event                             next      method
 *   starting  SIGHUP, or "intercede reload"     starting  #hangUp, #reload: a reload is due once the keeper serves
 *             SIGTERM, SIGINT                   starting  #stop: a stop is due then, or the exit after STARTS_MS
 *             the keeper serves                 serving   #serve
 *             the engine ends, no container     -         Keeper.start throws, and so does start
 *   serving   SIGHUP                            serving   #reload: a log line says so, or why not
 *             SIGHUP for another program or     serving   Reexec: the program is replaced, or a log line
 *             engine; other files of ours                 says why not
 *             the engine ends                   serving   EngineSupervisor, in the keeper
 *             SIGTERM, SIGINT                   ending    #stop
 *   ending    all is stored for the next        gone      #exit(0); at once without a service manager, since nobody
 *             process of the service                      would keep the descriptors
 *   any       uncaught exception                gone      #fail
 *
 * It exits only by exit_group: threads of the engine may hang in a container's file system for ever, and any other exit
 * would wait for them.
 */
class Service {
  readonly #sockets: Sockets
  readonly #read: () => Config
  #config: Config
  readonly #log: Log
  readonly #calls: CallLog
  readonly #refusals = new FewRefusals(REFUSALS)
  /** What log lines say of each container beside its id. */
  readonly #known = new Map<string, { readonly names: AnnotatedNames; readonly settings: Settings | undefined }>()
  readonly #children = new InheritedChildren()
  readonly #manager = new ServiceManager(process.env)
  readonly #nri = new NriPlugin({
    node: () => ({
      config: this.#config,
      socketPath: this.#sockets.socketPath,
      target: kubernetes.instructions.target,
    }),
    log: (...said) => this.#log.write(...said),
    refused: (message) => this.#hear({ type: 'refused', message }),
  })
  /** What was wrong with /dev/null at the last look: a flaw is said once, until it is mended. */
  #nullFlaw: string | undefined
  /** Undefined in the state starting. */
  #keeper: Keeper | undefined
  /** Undefined in the state starting. */
  #reexec: Reexec | undefined
  #isReloadDue = false
  readonly #begun: Promise<void>
  #begins = (): void => {}
  #stopDue: NodeJS.Signals | undefined

  constructor(sockets: Sockets, config: Config, read: () => Config) {
    this.#sockets = sockets
    this.#config = config
    this.#read = read
    this.#begun = new Promise((resolve) => {
      this.#begins = resolve
    })
    const journal = ownJournal((lines) => this.#keeper?.shown.totals.suppressedLines(lines))
    this.#log = new Log(config.log.level, isJournalStream(2), undefined, journal)
    this.#calls = new CallLog(
      (container, details, line) => {
        const said = { container, ...this.#known.get(container)?.names, ...details }
        this.#log.write(line.level, line.message, said, kindOf(line))
      },
      (record, container) => this.#settingOf(record, container),
    )
  }

  /** @throws {Error} if the keeper cannot start */
  async start(): Promise<void> {
    process.on('SIGHUP', () => this.#hangUp())
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => this.#stop(signal))
    process.on('uncaughtException', (error) => this.#fail(error))
    this.#serve(
      await Keeper.start({
        ...this.#sockets,
        limits: this.#config.limits,
        arguments: this.#config.log.arguments,
        containerLabel: this.#config.metrics.container,
        history: historyOf(this.#config, this.#sockets),
        manager: this.#manager,
        successor: {
          follow: () => this.#reexec?.follow(),
          ask: (isForced) => this.#reload(isForced),
          look: () => this.#look(),
        },
        resolve: (...said) => resolveBy(this.#config)(...said),
        readAnew: () => {
          const config = this.#read()
          return { resolve: resolveBy(config), ...daemonChange(this.#config, config) }
        },
        onEvent: (event) => this.#hear(event),
        onRecord: (...said) => this.#record(...said),
      }),
    )
  }

  #hangUp(): void {
    this.#keeper?.hangUp()
    if (this.#reexec) void this.#reload()
    else this.#isReloadDue = true
  }

  /**
   * Applies the configuration that the file now contains. The engine keeps running, unless another one is needed.
   *
   * @param isForced also if running containers lose their policy by it
   * @returns what has changed, or why nothing has
   */
  async #reload(isForced = false): Promise<Reloaded | string> {
    const [keeper, reexec, before] = [this.#keeper, this.#reexec, this.#config]
    if (!keeper || !reexec) {
      await this.#begun
      return this.#reload(isForced)
    }
    if (reexec.isDue) return reexec.ask(isForced)
    let all: Reloaded
    let change: DaemonChange
    try {
      const config = this.#read()
      change = daemonChange(before, config)
      if (change.anotherEngine) return reexec.ask(isForced)
      if (!isForced) keeper.requirePolicies(resolveBy(config))
      this.#manager.reloading()
      this.#config = config
      all = await keeper.reload(config.limits, config.metrics.container, historyOf(config, this.#sockets))
      this.#log.level = config.log.level
    } catch (error) {
      this.#config = before
      const why = (error as Error).message
      this.#manager.reloading()
      reexec.refused(why, OLD_ONE)
      return why
    }
    keeper.reloads(1)
    this.#serves(keeper)
    return { ...all, ...change }
  }

  #stop(signal: NodeJS.Signals): void {
    if (!this.#keeper) {
      // The sockets may exist already, and only the keeper that `start` returns can remove them.
      this.#stopDue = signal
      setTimeout(() => this.#exit(0), STARTS_MS)
      return
    }
    this.#log.write('info', `ended by ${signal}`)
    this.#manager.stopping()
    const kept = this.#keeper.stops(signal)
    const ready = this.#manager.isThere ? this.#keeper.detach() : kept
    void Promise.all([kept, ready]).then(() => this.#exit(0))
  }

  #serve(keeper: Keeper): void {
    this.#keeper = keeper
    if (this.#stopDue) this.#stop(this.#stopDue)
    this.#serves(keeper)
    const leave = (): void => this.#closeLog()
    this.#reexec = new Reexec(keeper, this.#manager, this.#log, {
      mode: () => this.#config.reload,
      bar: () => this.#bar(keeper),
      leave,
    })
    this.#begins()
    this.#lookAtRuntimes()
    if (this.#isReloadDue) this.#hangUp()
  }

  /** Returns why the file's configuration must not be used. The next program judges what we cannot read. */
  #bar(keeper: Keeper): string | undefined {
    let config: Config
    try {
      config = this.#read()
    } catch {
      return undefined
    }
    try {
      keeper.requirePolicies(resolveBy(config))
      return undefined
    } catch (error) {
      return (error as Error).message
    }
  }

  /** Reports that the keeper serves, with this configuration. */
  #serves(keeper: Keeper): void {
    const { socketPath: socket, lxcSocketPath: lxcSocket, forUser, configPath } = this.#sockets
    const limits = forUser ? { limits: FOR_USER } : {}
    const none = configPath && !existsSync(configPath) ? { configuration: `none: ${configPath} is not there` } : {}
    const { directory: history = 'none: containers that outlived an earlier daemon are not known' } =
      keeper.shown.history
    const details = { socket, lxcSocket, engine: keeper.enginePid, pid: process.pid, history, ...limits, ...none }
    this.#log.write('info', 'serving', details, 'serving')
    for (const text of ineffectiveIn(this.#config)) this.#log.write('warn', text)
    this.#lookAtNull()
    const { socket: nri } = this.#config.nri
    this.#nri.use(nri === 'none' ? undefined : nri)
    this.#manager.ready(keeper.status)
  }

  #record(...[record, container, hasEnded]: Parameters<KeeperOptions['onRecord']>): void {
    if (!this.#calls.add(record, container)) this.#keeper?.shown.totals.suppressedLines()
    if (hasEnded) this.#calls.forget(container)
  }

  /** Returns who switched off the key that a call would need. */
  #settingOf({ reason, a }: CallRecord, container: string): Readonly<Record<string, unknown>> {
    const name = reason === 'keyOff' ? keyNames[a] : undefined
    const setting = name && this.#known.get(container)?.settings?.get(name)
    return setting ? { setTo: formatSetting(setting) } : {}
  }

  #learn(event: KeeperEvent): void {
    if (event.type === 'registered') this.#know(event.handover, event.resolved.settings)
    if (event.type === 'resumed') this.#know(event, event.settings)
    if (event.type === 'set') this.#known.set(event.id, { ...this.#known.get(event.id)!, settings: event.settings })
    if (event.type !== 'ended') return
    this.#calls.forget(event.id)
    this.#known.delete(event.id)
  }

  #know({ id, annotations }: Pick<Handover, 'id' | 'annotations'>, settings: Settings | undefined): void {
    this.#known.set(id, { names: annotatedNames(annotations), settings })
  }

  #hear(event: KeeperEvent): void {
    this.#learn(event)
    if (event.type === 'program' && !this.#calls.takesProgram(event.id, event.program, Date.now())) {
      this.#keeper?.shown.totals.suppressedLines()
      return
    }
    if (event.type === 'refused' && !this.#refusals.take(event.message, Date.now())) {
      this.#keeper?.shown.totals.suppressedLines()
      return
    }
    logEvent(this.#log, event)
  }

  #look(): void {
    this.#calls.look(Date.now())
    this.#countRefusals(this.#refusals.leftOut(Date.now()))
    this.#children.look()
    if (this.#keeper) this.#manager.status(this.#keeper.status)
    this.#reexec?.look()
    this.#lookAtNull()
  }

  /** A user's containers do not get the host's null device, which the user may not give. */
  #lookAtNull(): void {
    const flaw = this.#sockets.forUser ? undefined : nullFlaw()
    if (flaw !== undefined && flaw !== this.#nullFlaw) this.#log.write('warn', flaw, { remedy: NULL_REMEDY })
    this.#nullFlaw = flaw
  }

  /** Says what reaches the host from a runtime: nobody may ever ask the doctor. A user's has nothing of the host. */
  #lookAtRuntimes(): void {
    for (const runtime of this.#sockets.forUser ? [] : ociRuntimes) {
      const { fault, installed } = runtime
      const path = fault && which(installed.program)
      if (!fault || path === undefined) continue
      execFile(path, ['--version'], { timeout: STARTS_MS }, (_, stdout) => {
        const version = versionIn(stdout)
        if (version === undefined || !hasFault(runtime, version)) return
        const says = `${installed.label} ${version} ${fault.name}: ${fault.follows}`
        this.#log.write('warn', says, { remedy: faultRemedy(runtime) })
      })
    }
  }

  #fail({ message, stack }: Error): never {
    this.#log.write('error', `Cannot go on: ${message}`, { stack })
    return this.#exit(1)
  }

  #exit(status: number): never {
    try {
      this.#keeper?.close()
      this.#closeLog()
    } finally {
      // Whatever fails there: Node's own exit would wait for threads that wait for ever.
      exitGroup(status)
    }
  }

  #countRefusals(count: number): void {
    if (count > 0) this.#log.write('warn', 'refusals without a line of their own', { count }, 'refused')
  }

  #closeLog(): void {
    this.#calls.close()
    this.#countRefusals(this.#refusals.rest())
    this.#log.close()
  }
}

/** Returns where and how history is kept, unless the configuration names another directory than the usual one. */
export const historyOf = ({ history }: Config, { historyPath, forUser }: HistoryPlace): HistoryOptions | undefined => {
  const { path = historyPath, size, age } = history
  const usual = forUser ? userState() : historyPath
  return path === undefined || path === 'none' ? undefined : { directory: path, usual, size, age }
}
type HistoryPlace = Pick<Sockets, 'historyPath' | 'forUser'>

/** Returns what an engine gets only when it starts, and what decides the size of a memory. */
const ofEngine = ({ log, limits }: Config): unknown => {
  const { listenersPerContainer: _, connections: __, ...rest } = effectiveLimits(limits)
  return { arguments: log.arguments, ...rest }
}

/** Returns what another configuration changes beside the policies of containers. */
const daemonChange = (before: Config, config: Config): DaemonChange => ({
  daemon: (['log', 'metrics', 'limits', 'history', 'nri', 'reload'] as const).filter(
    (name) => !isDeepStrictEqual(config[name], before[name]),
  ),
  anotherEngine: !isDeepStrictEqual(ofEngine(config), ofEngine(before)),
})

const resolveBy =
  (config: Config): KeeperOptions['resolve'] =>
  (handover, set) => {
    try {
      return resolved(config, handover, set)
    } catch (error) {
      // What readers see of the keys must not be above the ceiling, even if none of them has an effect.
      const settings = clamp(defaults, config.ceiling)
      return { policy: {}, settings, wrong: (error as Error).message, details: {} }
    }
  }

function resolved(config: Config, handover: Handover, given: readonly SetKey[]): PolicyDetails {
  const { metadata, annotations, unknownAnnotations: ignoredMore } = handover
  const set = given.map(({ key, value }) => [key, value, { kind: 'set' }] as const)
  const { notes, lowered, ...rest } = resolve(config, { metadata, annotations, set }, deviceNames)
  const details = {
    ...(notes.length > 0 ? { ignored: notes.map(brief) } : {}),
    ...(ignoredMore ? { ignoredMore } : {}),
    ...(lowered.length > 0 ? { lowered: lowered.map(brief) } : {}),
  }
  return { ...rest, details }
}

const brief = (note: Note): Note => ({ ...note, value: shortened(note.value) })

function kindOf({ level, message }: CallLine): LogKind {
  if (message !== 'call') return 'leftOut'
  return level === 'notice' ? 'refusedCall' : 'call'
}
