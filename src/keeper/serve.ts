import { deviceNames } from '../kernel/device-names.ts'
import { exitGroup } from '../kernel/process.ts'
import type { Config } from '../policy/config.ts'
import { resolve } from '../policy/resolve.ts'
import { effective } from '../policy/settings.ts'
import type { Handover } from '../runtimes/handover.ts'
import { ineffectiveIn } from './ineffective-keys.ts'
import { Keeper } from './keeper.ts'
import { CallLog } from './log/call-log.ts'
import { Log } from './log/log.ts'
import { registrationWarnings } from './log/registration-warnings.ts'
import type { KeeperEvent, KeeperOptions, PolicyDetails } from './process/events.ts'
import { InheritedChildren } from './process/inherited-children.ts'
import { ServiceManager } from './process/service-manager.ts'
import { Reexec } from './reexec.ts'

type Place = Pick<KeeperOptions, 'socketPath' | 'lxcSocketPath' | 'forUser'>

/** For so long a signal that ends it waits while it starts. */
const STARTS_MS = 5000
/** What changes the status. */
const CHANGES: ReadonlySet<KeeperEvent['type']> = new Set(['registered', 'joined', 'ended'])
/** Said at the start of the log. */
const FOR_USER = 'only sysinfo and mount.fuse are served, the rest is left to the kernel: a user runs intercede'

/**
 * Serves the containers of this host until a signal ends it. Every way out is exit_group: threads of the engine may be
 * stuck in a container's file system for ever, and nobody waits for them.
 *
 * @throws {Error} if it cannot start
 */
export async function serve(place: Place, config: Config): Promise<void> {
  const log = new Log(config.log.level)
  const calls = new CallLog((container, details) => log.write('info', 'call', { container, ...details }))
  const end = (status: number): never => {
    keeper?.close()
    return exitGroup(status)
  }
  const strangers = new InheritedChildren()
  const manager = new ServiceManager(process.env)
  let keeper: Keeper | undefined
  let reexec: Reexec | undefined
  let isAsked = false
  const reload = (): void => {
    isAsked = true
    reexec?.ask()
  }
  process.on('SIGHUP', reload)
  // While it starts, its sockets may be there already: it ends once it knows them, if that is soon.
  let ending: NodeJS.Signals | undefined
  const stop = (signal: NodeJS.Signals): void => {
    if (!keeper) {
      ending = signal
      setTimeout(end, STARTS_MS, 0)
      return
    }
    log.write('info', `ended by ${signal}`)
    manager.stopping()
    if (manager.isThere) void keeper.detach().then(() => end(0))
    else end(0)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop)
  const look = (): void => {
    strangers.look()
    reexec?.look()
  }
  process.on('uncaughtException', (error) => {
    log.write('error', `Cannot go on: ${error.message}`, { stack: error.stack })
    end(1)
  })
  keeper = await Keeper.start({
    ...place,
    limits: config.limits,
    manager,
    successor: { follow: () => reexec?.follow(), look },
    resolve: (handover) => resolved(config, handover),
    onEvent: (event) => {
      if (event.type === 'ended') calls.forget(event.id)
      report(log, event)
      if (keeper && CHANGES.has(event.type)) manager.status(keeper.status)
    },
    onRecord: (record, container) => calls.add(record, container),
  })
  if (ending) stop(ending)
  const { socketPath: socket, lxcSocketPath: lxcSocket, forUser } = place
  const limits = forUser ? { limits: FOR_USER } : {}
  log.write('info', 'serving', { socket, lxcSocket, engine: keeper.enginePid, pid: process.pid, ...limits })
  for (const text of ineffectiveIn(config)) log.write('warn', text)
  manager.ready(keeper.status)
  reexec = new Reexec(keeper, manager, log)
  if (isAsked) reload()
}

function resolved(config: Config, { metadata, annotations }: Handover): PolicyDetails {
  const { settings, policy, notes } = resolve(config, { metadata, annotations }, deviceNames)
  const keys = effective(settings).map(({ key, text, origin }) => [key, `${text} (${origin})`])
  return { policy, details: { keys: Object.fromEntries(keys), ...(notes.length ? { ignored: notes } : {}) } }
}

function report(log: Log, event: KeeperEvent): void {
  switch (event.type) {
    case 'registered': {
      const { handover, resolved } = event
      const cannot = registrationWarnings(event)
      const details = { container: handover.id, process: handover.pid, ...resolved.details }
      log.write(cannot.length ? 'warn' : 'info', 'container', cannot.length ? { ...details, cannot } : details)
      break
    }
    case 'resumed':
      log.write('info', 'container goes on', { container: event.id })
      break
    case 'joined':
      log.write('debug', 'process joined', { container: event.handover.id, process: event.handover.pid })
      break
    case 'ended':
      log.write('info', 'container ended', { container: event.id })
      break
    case 'limit': {
      const { id: container, limit, value } = event
      log.write('debug', 'calls have waited for others of their container', { container, [limit]: value })
      break
    }
    case 'refused':
      log.write('warn', event.message)
      break
    case 'fault':
      log.write('error', event.message)
      break
    case 'engineStarted':
      log.write('info', 'the engine serves', { engine: event.pid })
      break
    case 'engineEnded':
      log.write('error', `the engine ${event.how}: ${next(event.pause)}`, event.pause ? { pause: event.pause } : {})
      break
    case 'program': {
      const { id: container, program, reason, words } = event
      log.write('warn', 'a program in a container failed', { container, program, reason, words })
      break
    }
    case 'recordsLost':
      log.write('warn', 'records were lost: calls came faster than they could be logged', { count: event.count })
  }
}

const next = (pause: number): string =>
  pause === 0
    ? 'another one takes over its calls'
    : 'engines fail all the time, so every call is left to the kernel until the next one is tried'
