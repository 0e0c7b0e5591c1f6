import { RLIM_INFINITY, RLIMIT } from '../abi/rlimit.ts'
import { briefly, didYouMean } from '../shared/texts.ts'
import { elements, type ValueType, valueType } from './value-types.ts'

/** The names of resources as setrlimit(2) has them, in small letters and without RLIMIT_, by their numbers. */
const names: readonly string[] = Object.keys(RLIMIT).map((name) => name.toLowerCase())

const OF_NAMESPACE = 'the kernel counts it for a whole user namespace, with the limits that its maker had'
const OF_SCHEDULING = 'sched_setscheduler is for that, and keeps the engine ahead of the container'
/** What no list allows. */
const NEVER: ReadonlyMap<number, string> = new Map([
  ...[RLIMIT.NPROC, RLIMIT.SIGPENDING, RLIMIT.MSGQUEUE].map((resource) => [resource, OF_NAMESPACE] as const),
  ...[RLIMIT.NICE, RLIMIT.RTPRIO].map((resource) => [resource, OF_SCHEDULING] as const),
])

/** Tells whether no list can have a resource. */
export const isNeverRaised = (resource: number): boolean => NEVER.has(resource)

/** Returns the name of a resource, which a record may have from a container. */
export const limitName = (resource: number): string => names[resource] ?? String(resource)

/** Resources that are counted in bytes, and written with units. */
const OF_BYTES: ReadonlySet<number> = new Set([
  ...[RLIMIT.FSIZE, RLIMIT.DATA, RLIMIT.STACK, RLIMIT.CORE, RLIMIT.RSS, RLIMIT.MEMLOCK, RLIMIT.AS],
])
const UNITS = ['', 'K', 'M', 'G', 'T', 'P'] as const
const UNIT = 1024n
const UNLIMITED = 'unlimited'

function shown(resource: number, value: bigint): string {
  if (value === RLIM_INFINITY) return UNLIMITED
  let [number, unit] = [value, 0]
  while (OF_BYTES.has(resource) && number > 0n && number % UNIT === 0n && unit < UNITS.length - 1) {
    number /= UNIT
    unit++
  }
  return `${number}${UNITS[unit]}`
}

/** Writes a limit as a list has it: `nofile=1048576`, `memlock=2G`. */
export const writtenLimit = (resource: number, value: bigint): string =>
  `${limitName(resource)}=${shown(resource, value)}`

/** The highest hard limits, by the numbers of their resources. */
export type ResourceLimits = ReadonlyMap<number, bigint>

/** Reads the value of a limit; undefined if it is none. */
export function limitValue(text: string): bigint | undefined {
  if (text.toLowerCase() === UNLIMITED) return RLIM_INFINITY
  const [, digits, unit = ''] = /^(\d{1,20})([KMGTP]?)$/i.exec(text) ?? []
  if (digits === undefined) return undefined
  const value = BigInt(digits) * UNIT ** BigInt(UNITS.indexOf(unit.toUpperCase() as (typeof UNITS)[number]))
  return value < RLIM_INFINITY ? value : undefined
}

function limit(text: string): readonly [resource: number, most: bigint] {
  const [name = '', ...rest] = text.split('=')
  const resource = names.indexOf(name.trim().toLowerCase())
  if (resource < 0) throw new RangeError(`${briefly(name)} is no resource${didYouMean(name, names)}`)
  const never = NEVER.get(resource)
  if (never) throw new RangeError(`${briefly(name)} cannot be listed: ${never}`)
  const most = limitValue(rest.join('=').trim())
  if (most === undefined)
    throw new RangeError(`${briefly(text)} has no value, which is a number such as 4096 or 2G, or "unlimited"`)
  return [resource, most]
}

/** Of several values of one resource the highest counts, so that a list can be completed by adding to it. */
const highest = (pairs: readonly (readonly [number, bigint])[]): ResourceLimits =>
  new Map(pairs.toSorted(([a, low], [b, high]) => a - b || (low < high ? -1 : 1)))

/** Returns the limits that another list has as high. */
const within = (limits: ResourceLimits, other: ResourceLimits): readonly (readonly [number, bigint])[] =>
  [...limits].filter(([resource, most]) => most <= (other.get(resource) ?? -1n))

/** Which hard limits a container may raise, and how far. */
export const resourceLimits: ValueType<ResourceLimits> = valueType<ResourceLimits>({
  isList: true,
  allowed: 'a list of RESOURCE=LIMIT such as nofile=1048576,memlock=2G',
  offered: ['nofile=1048576', 'memlock=2G', 'core=unlimited', 'stack=unlimited'],
  parse: (text) => highest(elements(text).map(limit)),
  format: (limits) => [...limits].map(([resource, most]) => writtenLimit(resource, most)).join(','),
  lowest: new Map(),
  lowers: (from, to) => within(to, from).length === to.size,
  meet: (one, other) => highest([...within(one, other), ...within(other, one)]),
})
