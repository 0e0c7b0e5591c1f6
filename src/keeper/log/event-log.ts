import type { LogLevel } from '../../policy/config.ts'
import type { Handover } from '../../runtimes/handover.ts'
import type { KeeperEvent } from '../process/events.ts'
import { changedKeys, effectiveKeys } from './effective-keys.ts'
import type { Log } from './log.ts'
import { registrationWarnings } from './registration-warnings.ts'

type Line = readonly [level: LogLevel, message: string, details?: Readonly<Record<string, unknown>>]
type EventOf<Type extends KeeperEvent['type']> = Extract<KeeperEvent, { readonly type: Type }>

const lines: { readonly [Type in KeeperEvent['type']]: (event: EventOf<Type>) => Line } = {
  registered: (event) => registered(event, registrationWarnings(event)),
  resumed,
  set: ({ id, by, changed }) => ['notice', 'container changed', { container: id, by, changed }],
  joined: ({ handover }) => ['debug', 'process joined', { container: handover.id, ...processOf(handover) }],
  ended: ({ id }) => ['info', 'container ended', { container: id }],
  limit: ({ id, limit, value }) => [
    'debug',
    'calls have waited for others of their container',
    { container: id, [limit]: value },
  ],
  refused: ({ message }) => ['warn', message],
  fault: ({ message }) => ['error', message],
  engineStarted: ({ pid }) => ['info', 'the engine serves', { engine: pid }],
  engineEnded: ({ how, pause }) => ['error', `the engine ${how}: ${next(pause)}`, pause ? { pause } : {}],
  program: ({ id, program, reason, words }) => [
    'warn',
    'a program in a container failed',
    { container: id, program, reason, words },
  ],
  recordsLost: ({ count }) => ['warn', 'records were lost: calls came faster than they could be logged', { count }],
}

/** Writes the log line of an event of the keeper. */
export function logEvent(log: Log, event: KeeperEvent): void {
  const line = lines[event.type] as (event: KeeperEvent) => Line
  const [level, message, details] = line(event)
  log.write(level, message, details, event.type)
}

/** If the process is in another pid namespace, crun does not tell which process it has exec'd, nor LXC which init. */
const processOf = ({ pid }: Handover): { readonly process?: number } => (pid === 0 ? {} : { process: pid })

function registered({ handover, resolved, traps }: EventOf<'registered'>, cannot: readonly string[]): Line {
  const { settings, policy, details: more } = resolved
  const keys = settings ? { keys: effectiveKeys(settings, policy, traps) } : {}
  const details = { container: handover.id, ...processOf(handover), ...keys, ...more }
  return cannot.length ? ['warn', 'container', { ...details, cannot }] : ['info', 'container', details]
}

/** The settings of a container that an older version stored are unknown, so a change is not logged. */
function resumed({ id, before, settings, policy, traps }: EventOf<'resumed'>): Line {
  const changed = before && changedKeys(before, settings, effectiveKeys(settings, policy, traps))
  return [changed ? 'notice' : 'info', 'container goes on', { container: id, ...(changed ? { changed } : {}) }]
}

const next = (pause: number): string =>
  pause === 0
    ? 'another one takes over its calls'
    : 'engines fail all the time, so every call is left to the kernel until the next one is tried'
