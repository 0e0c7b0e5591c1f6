import { type Cap, capNumber } from '../../abi/credentials.ts'
import { explain, why } from '../../calls/reasons.ts'
import type { LogLevel } from '../../policy/config.ts'
import { capabilitySets, ineffectiveKeys } from '../../policy/ineffective.ts'
import { fullName } from '../../policy/key.ts'
import { callOf, type KeyName, keyNames } from '../../policy/keys.ts'
import type { Policy } from '../../policy/policy.ts'
import { clamped, type Settings } from '../../policy/settings.ts'
import { bundleBoundingSet } from '../../runtimes/bundle.ts'
import type { Handover } from '../../runtimes/handover.ts'
import { untrapped } from '../../syscalls/index.ts'
import { explainBarred } from '../containers/admission.ts'
import { annotatedNames } from '../containers/annotations.ts'
import type { KeeperEvent } from '../process/events.ts'
import { changedKeys, effectiveKeys, isOfAll, isOfAnnotation } from './effective-keys.ts'
import type { Log } from './log.ts'

type Registered = Extract<KeeperEvent, { type: 'registered' }>

/** Lists what cannot work in a new container's policy: a sentence with its remedy for each. */
export function registrationWarnings(event: Registered): readonly string[] {
  const {
    barred,
    wrong,
    unruly,
    handover,
    withheld,
    resolved: { policy, settings },
  } = event
  if (barred) return [sentence(explainBarred(barred, wrong))]
  const bounding = bundleBoundingSet(handover.bundle)
  const lacking = (set: readonly Cap[]): Cap | undefined => set.find((cap) => bounding?.has(`CAP_${cap}`) === false)
  const dropped = capabilitySets(policy).flatMap((sets) => {
    const lacks = sets.map(lacking)
    return lacks.every((cap) => cap !== undefined) ? [lacks[0]!] : []
  })
  const place = policy.bpf?.devices && unruly ? [sentence(explain(why(unruly)))] : []
  const left = withheld.map((key) => `${key}: ${sentence(explain(why('userDaemon')))}`)
  const caps = [...new Set(dropped)].map((cap) => sentence(explain(why('lacksCapability', capNumber(cap)))))
  return [...left, ...caps, ...place, ...idle(event), ...(settings ? clamped(settings) : [])]
}

/**
 * Lists the keys that were meant for this container and have no effect there. Keys of the configuration's default are
 * for containers of all kinds, so they do not count. An annotation that switches a call off is intended, too, unless
 * somebody set an option of the call.
 */
function idle({ resolved: { settings, policy }, traps }: Registered): readonly string[] {
  if (!settings) return []
  const isMeant = (name: KeyName): boolean => {
    const own = settings.get(name)!
    return own.origin.kind === 'set' || !(isOfAll(own) || isOfAnnotation(settings.get(callOf(name) ?? name)!))
  }
  return [
    ...ineffectiveKeys(settings, isMeant),
    ...(traps instanceof Set ? untrappedKeys(settings, policy, traps) : []),
  ]
}

const untrappedKeys = (settings: Settings, policy: Policy, traps: ReadonlySet<string>): readonly string[] =>
  keyNames.flatMap((name) => {
    const missing = isOfAll(settings.get(name)!) ? [] : untrapped(policy, name, traps)
    if (missing.length === 0) return []
    return [
      `${fullName(name)}: the filter of the container does not trap ${missing.join(', ')}: make its profile with this key`,
    ]
  })

const sentence = ({ says, remedy }: ReturnType<typeof explain>): string => (remedy ? `${says}: ${remedy}` : says)

type Line = readonly [level: LogLevel, message: string, details?: Readonly<Record<string, unknown>>]
type EventOf<Type extends KeeperEvent['type']> = Extract<KeeperEvent, { readonly type: Type }>

const isNothing = (changed: object): boolean => Object.keys(changed).length === 0

const lines: { readonly [Type in KeeperEvent['type']]: (event: EventOf<Type>) => Line } = {
  registered: (event) => registered(event, registrationWarnings(event)),
  resumed,
  set: ({ id, by, who, changed }) =>
    isNothing(changed)
      ? ['info', 'nothing new was set', { container: id, by, who }]
      : ['notice', 'container changed', { container: id, by, who, changed }],
  reloadOrdered: ({ by, who }) => ['notice', 'reload ordered', { by, ...(who ? { who } : {}) }],
  stopOrdered: ({ id, signal, by, who }) => ['notice', 'stop ordered', { container: id, signal, by, who }],
  joined: ({ handover }) => ['debug', 'process joined', { container: handover.id, ...processOf(handover) }],
  ended: ({ id, barred }) => [
    'info',
    barred === 'unknownContainer' ? 'process ended' : 'container ended',
    { container: id },
  ],
  limit: ({ id, limit, value }) => [
    'debug',
    'calls have waited for others of their container',
    { container: id, [limit]: value },
  ],
  refused: ({ message, cause, id, name }) => [
    cause === 'abandoned' ? 'info' : 'warn',
    message,
    { ...(id === undefined ? {} : { container: id }), ...(name === undefined ? {} : { name }) },
  ],
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

export function logEvent(log: Log, event: KeeperEvent): void {
  const line = lines[event.type] as (event: KeeperEvent) => Line
  const [level, message, details] = line(event)
  // The catalog would say that an order without effect has changed the container.
  const kind = event.type === 'set' && isNothing(event.changed) ? undefined : event.type
  log.write(level, message, details, kind)
}

/** If the process is in another pid namespace, crun does not tell which process it has exec'd, nor LXC which init. */
const processOf = ({ pid }: Handover): { readonly process?: number } => (pid === 0 ? {} : { process: pid })

function registered({ handover, resolved, traps }: EventOf<'registered'>, cannot: readonly string[]): Line {
  const { settings, policy, details: more } = resolved
  const keys = settings ? { keys: effectiveKeys(settings, policy, traps) } : {}
  const names = annotatedNames(handover.annotations)
  const details = { container: handover.id, ...names, ...processOf(handover), ...keys, ...more }
  return cannot.length ? ['warn', 'container', { ...details, cannot }] : ['info', 'container', details]
}

function resumed({ id, before, settings, policy, traps }: EventOf<'resumed'>): Line {
  const changed = changedKeys(before, settings, policy, traps)
  return [changed ? 'notice' : 'info', 'container goes on', { container: id, ...(changed ? { changed } : {}) }]
}

const next = (pause: number): string =>
  pause === 0
    ? 'another one takes over its calls'
    : 'engines fail all the time, so every call is left to the kernel until the next one is tried'
