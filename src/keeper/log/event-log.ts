import type { LogLevel } from '../../policy/config.ts'
import type { KeeperEvent } from '../process/events.ts'
import type { Log } from './log.ts'
import { registrationWarnings } from './registration-warnings.ts'

type Line = readonly [level: LogLevel, message: string, details?: Readonly<Record<string, unknown>>]
type EventOf<Type extends KeeperEvent['type']> = Extract<KeeperEvent, { readonly type: Type }>

const lines: { readonly [Type in KeeperEvent['type']]: (event: EventOf<Type>) => Line } = {
  registered: (event) => registered(event, registrationWarnings(event)),
  resumed: ({ id }) => ['info', 'container goes on', { container: id }],
  joined: ({ handover: { id, pid } }) => ['debug', 'process joined', { container: id, process: pid }],
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
  log.write(...line(event))
}

function registered({ handover, resolved }: EventOf<'registered'>, cannot: readonly string[]): Line {
  const details = { container: handover.id, process: handover.pid, ...resolved.details }
  return cannot.length ? ['warn', 'container', { ...details, cannot }] : ['info', 'container', details]
}

const next = (pause: number): string =>
  pause === 0
    ? 'another one takes over its calls'
    : 'engines fail all the time, so every call is left to the kernel until the next one is tried'
