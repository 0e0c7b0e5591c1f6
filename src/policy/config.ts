import * as v from 'valibot'
import { briefly, didYouMean } from '../shared/texts.ts'
import {
  argumentModes,
  CONFIG_KEYS,
  logLevels,
  type MemberOf,
  membersOf,
  reloadModes,
  type SectionName,
} from './config-keys.ts'
import { PolicyError } from './error.ts'
import type { KeyValueLine } from './key-value-lines.ts'
import { toKeyName } from './keys.ts'
import { LIMITS, type Limits } from './limits.ts'
import type { DeviceNames } from './refused-devices.ts'
import { type Ceilings, parsePolicy, settle } from './settings.ts'
import { checkTypes, Flaws, keyMapOf, mapOf, type Path, parseYaml, toEntries, type Where } from './yaml-file.ts'

/** The daemon's configuration file, checked to the last value. */
export interface Config {
  /** Keys that hold for every container unless something stronger says otherwise. */
  readonly default: readonly KeyValueLine[]
  readonly profiles: ReadonlyMap<string, readonly KeyValueLine[]>
  /** The profiles that a container's annotations may choose, and the keys that they may raise (short names). */
  readonly annotations: { readonly profiles: ReadonlySet<string>; readonly raise: ReadonlySet<string> }
  /** What each key may be at most, whoever gives it. */
  readonly ceiling: Ceilings
  readonly log: { readonly level: LogLevel; readonly arguments: ArgumentMode }
  /** Whether metrics name containers. */
  readonly metrics: { readonly container: boolean }
  readonly limits: Partial<Limits>
  /** Where refusals outlive their containers, as text; in bytes and milliseconds at most. */
  readonly history: { readonly path?: string; readonly size: number; readonly age: number }
  /** The socket of a runtime's NRI, and which profiles Pods may name, by their namespace; `*` is every namespace. */
  readonly nri: { readonly socket?: string; readonly namespaces: ReadonlyMap<string, readonly string[]> }
  /** Whether the service becomes the program that its files are as soon as they are replaced, or on SIGHUP only. */
  readonly reload: ReloadMode
}

export type LogLevel = (typeof logLevels)[number]
export type ArgumentMode = (typeof argumentModes)[number]
export type ReloadMode = (typeof reloadModes)[number]

const keyMap = keyMapOf(CONFIG_KEYS.default.allowed)
const names = v.optional(v.array(v.string('a text'), 'a list'), [])
/** One of some words, the usual one if nothing is said. */
const oneOf = <const T extends readonly string[]>(
  words: T,
  key: { readonly allowed: string; readonly usually: T[number] },
) => v.optional(v.picklist(words, key.allowed), key.usually)
const log = v.strictObject({
  level: oneOf(logLevels, CONFIG_KEYS['log.level']),
  arguments: oneOf(argumentModes, CONFIG_KEYS['log.arguments']),
} satisfies Record<MemberOf<'log'>, unknown>)
const metrics = v.strictObject({
  container: v.optional(
    v.boolean(CONFIG_KEYS['metrics.container'].allowed),
    JSON.parse(CONFIG_KEYS['metrics.container'].usually) as boolean,
  ),
} satisfies Record<MemberOf<'metrics'>, unknown>)
const annotations = v.strictObject({ profiles: names, raise: names } satisfies Record<MemberOf<'annotations'>, unknown>)
const bounded = ({ from, to }: { readonly from: number; readonly to: number }) =>
  v.pipe(
    v.number(`a whole number from ${from}`),
    v.integer(`a whole number from ${from}`),
    v.minValue(from, `at least ${from}`),
    v.maxValue(to, `at most ${to}`),
  )
const KIB = 1024
const DAY = 86_400_000
/** A number with a unit, such as 16m. */
const measured = (
  key: 'history.size' | 'history.age',
  units: Readonly<Record<string, number>>,
  from: number,
  to: number,
) => {
  const { allowed, usually } = CONFIG_KEYS[key]
  const inUnits = (text: string): number => {
    const [, number, unit = ''] = /^(\d{1,9})([a-z])$/.exec(text) ?? []
    return Number(number) * (units[unit] ?? Number.NaN)
  }
  const isWithin = (text: string): boolean => inUnits(text) >= from && inUnits(text) <= to
  return v.pipe(v.optional(v.pipe(v.string(allowed), v.check(isWithin, allowed)), usually), v.transform(inUnits))
}
const pathOrNone = ({ allowed }: { readonly allowed: string }) =>
  v.pipe(
    v.string(allowed),
    v.check((path) => path === 'none' || path.startsWith('/'), allowed),
  )
const history = v.strictObject({
  path: v.exactOptional(pathOrNone(CONFIG_KEYS['history.path'])),
  size: measured('history.size', { k: KIB, m: KIB ** 2 }, KIB ** 2, 256 * KIB ** 2),
  age: measured('history.age', { d: DAY }, DAY, 3650 * DAY),
} satisfies Record<MemberOf<'history'>, unknown>)
const nri = v.strictObject({
  socket: v.exactOptional(pathOrNone(CONFIG_KEYS['nri.socket'])),
  namespaces: v.nullish(mapOf(v.record(v.string(), names), CONFIG_KEYS['nri.namespaces'].allowed), {}),
} satisfies Record<MemberOf<'nri'>, unknown>)
const isPowerOfTwo = (number: number): boolean => Number.isInteger(Math.log2(number))
const limits = v.strictObject({
  callsPerContainer: v.exactOptional(bounded(LIMITS.callsPerContainer)),
  calls: v.exactOptional(bounded(LIMITS.calls)),
  listenersPerContainer: v.exactOptional(bounded(LIMITS.listenersPerContainer)),
  connections: v.exactOptional(bounded(LIMITS.connections)),
  records: v.exactOptional(v.pipe(bounded(LIMITS.records), v.check(isPowerOfTwo, LIMITS.records.must))),
} satisfies Record<MemberOf<'limits'>, unknown>)

const sectionOf = <S extends v.GenericSchema>(schema: S, name: string, last = ', ') =>
  mapOf(schema, `a map of ${membersOf(name).join(last)}`)

/** A section whose lines are all commented out is null, and means as little as a missing one. */
const shape = {
  default: v.nullish(keyMap, {}),
  profiles: v.nullish(mapOf(v.record(v.string(), keyMap), CONFIG_KEYS.profiles.allowed), {}),
  annotations: v.nullish(sectionOf(annotations, 'annotations', ' and '), {}),
  ceiling: v.nullish(keyMap, {}),
  log: v.nullish(sectionOf(log, 'log', ' and '), {}),
  metrics: v.nullish(sectionOf(metrics, 'metrics'), {}),
  limits: v.nullish(sectionOf(limits, 'limits'), {}),
  history: v.nullish(sectionOf(history, 'history', ' and '), {}),
  nri: v.nullish(sectionOf(nri, 'nri', ' and '), {}),
  reload: v.nullish(v.picklist(reloadModes, CONFIG_KEYS.reload.allowed), CONFIG_KEYS.reload.usually),
} satisfies Record<SectionName, unknown>
const sections = Object.keys(shape)
/** A whole file, as YAML has read it. */
export const ConfigFile = mapOf(v.strictObject(shape), `a map of ${sections.join(', ')}`)

/**
 * Reads the configuration file.
 *
 * @param file its name, for errors @param named what the numbers of devices mean on this host now, where that matters
 * @throws {PolicyError} for all that is not understood, naming the key, the value, what is allowed, line and column
 */
export function parseConfig(text: string, file: string, named?: DeviceNames): Config {
  const [given, where] = parseYaml(text, file)
  const flaws = new Flaws(file)
  // Also those in which something is wrong.
  const known = Object.keys((given as { readonly profiles?: object }).profiles ?? {})
  const { annotations, ceiling, log, metrics, limits, history, nri, reload, ...rest } = checkTypes(ConfigFile, given, {
    where,
    flaws,
  })
  const defaults = toEntries(rest.default, { kind: 'configuration' }, ['default'], where, flaws)
  const profiles = new Map(
    Object.entries(rest.profiles).map(([name, keys]) => [
      name,
      toEntries(keys, { kind: 'profile', name }, ['profiles', name], where, flaws),
    ]),
  )
  for (const entries of [[], ...profiles.values()]) flaws.in(() => parsePolicy([...defaults, ...entries], named))
  const chosen = checkAnnotations(annotations, known, where, flaws)
  const namespaces = Object.entries(nri.namespaces)
  for (const [name, profiles] of namespaces) checkKnown(profiles, known, ['nri', 'namespaces', name], where, flaws)
  const ceilings = toEntries(ceiling, { kind: 'ceiling' }, ['ceiling'], where, flaws)
  const [most = new Map()] = flaws.in(() => ceilingsOf(ceilings))
  flaws.throw()
  return {
    default: defaults,
    profiles,
    annotations: chosen,
    ceiling: most,
    log,
    metrics,
    limits,
    history,
    nri: { ...nri, namespaces: new Map(namespaces) },
    reload,
  }
}

/** Two keys may contradict each other as ceilings: a container has at most one of the two. */
const ceilingsOf = (entries: readonly KeyValueLine[]): Ceilings =>
  new Map([...settle(entries, new Map())].map(([name, { text }]) => [name, text]))

function checkAnnotations(
  given: { readonly profiles: readonly string[]; readonly raise: readonly string[] },
  known: readonly string[],
  where: Where,
  flaws: Flaws,
): Config['annotations'] {
  checkKnown(given.profiles, known, ['annotations', 'profiles'], where, flaws)
  const raise = given.raise.flatMap((key, index) =>
    flaws.in(() => toKeyName(key, where(['annotations', 'raise', index]))),
  )
  return { profiles: new Set(given.profiles), raise: new Set(raise) }
}

/** Checks that the names in a list are those of profiles. */
function checkKnown(list: readonly string[], known: readonly string[], path: Path, where: Where, flaws: Flaws): void {
  for (const [index, name] of list.entries())
    flaws.in(() => {
      const hint = didYouMean(name, known) || '; name one of "profiles"'
      if (!known.includes(name))
        throw new PolicyError(`unknown profile ${briefly(name)}`, where([...path, index]), hint)
    })
}
