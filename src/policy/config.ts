import * as v from 'valibot'
import { type Document, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument } from 'yaml'
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
import { type Place, PolicyError } from './error.ts'
import { expandShort } from './key.ts'
import type { KeyValueLine, Origin } from './key-value-lines.ts'
import { keys, toKeyName } from './keys.ts'
import { LIMITS, type Limits } from './limits.ts'
import type { DeviceNames } from './refused-devices.ts'
import { type Ceilings, parsePolicy, settle } from './settings.ts'

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

/** Names of JavaScript's own, which valibot leaves out of a map without a word. */
const RESERVED = ['__proto__', 'prototype', 'constructor']

/** A map of YAML; valibot alone would take a list for one. */
const mapOf = <S extends v.GenericSchema>(schema: S, allowed: string) =>
  v.pipe(
    v.custom<v.InferInput<S>>((given) => typeof given === 'object' && given !== null && !Array.isArray(given), allowed),
    v.check(
      (given) => !RESERVED.some((name) => Object.hasOwn(given as object, name)),
      `one without ${RESERVED.join(', ')}`,
    ),
    schema,
  )

const scalar = v.union([v.string(), v.boolean(), v.number()], 'a text, a number, true or false')
const value = v.union([scalar, v.array(scalar), v.record(v.string(), scalar)], 'a value, a list or a map of values')
const keyMap = mapOf(v.record(v.string(), value), CONFIG_KEYS.default.allowed)
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
/** What JavaScript calls a value, in words of YAML. */
const KINDS: Readonly<Record<string, string>> = { Array: 'a list', Object: 'a map', null: 'empty' }
/** A whole file, as YAML has read it. */
export const ConfigFile = mapOf(v.strictObject(shape), `a map of ${sections.join(', ')}`)

type Path = readonly (string | number)[]
type Where = (path: Path) => Place

function placeAt(lines: LineCounter, offset: number, file: string): Place {
  const { line, col } = lines.linePos(offset)
  return { file, line, column: col }
}

/** Finds the place of the key or element that a path leads to, or of the last one on the way that exists. */
function locator(document: Document, lines: LineCounter, file: string): Where {
  return (path) => {
    let [node, found]: [unknown, unknown] = [document.contents, undefined]
    for (const step of path) {
      const pair = isMap(node) ? node.items.find(({ key }) => isScalar(key) && String(key.value) === step) : undefined
      const next = isSeq(node) ? node.items[Number(step)] : pair?.value
      if (next === undefined) break
      ;[node, found] = [next, pair?.key ?? next]
    }
    return isNode(found) && found.range ? placeAt(lines, found.range[0], file) : { file }
  }
}

/** Keys may be written as YAML's own booleans, numbers, lists and maps; a policy knows only text. */
function toText(given: v.InferOutput<typeof value>, key: string, place: Place): string {
  if (typeof given !== 'object') return String(given)
  const { isList, allowed } = keys[toKeyName(key, place)]
  if (!isList) throw new PolicyError(`${expandShort(key)} is ${kind(given)}`, place, `, allowed is ${allowed}`)
  if (Array.isArray(given)) return given.join(',')
  return Object.entries(given)
    .map((pair) => pair.join('='))
    .join(',')
}

type Keys = Readonly<Record<string, v.InferOutput<typeof value>>>
const kind = (given: object): string => (Array.isArray(given) ? 'a list' : 'a map')

/** Collects what is wrong, so that all of it can be corrected at once. */
class Flaws {
  readonly #file: string
  readonly #all: PolicyError[] = []

  constructor(file: string) {
    this.#file = file
  }

  /** @returns a list of the one result; an empty one if it is an error */
  in<T>(read: () => T): readonly T[] {
    try {
      return [read()]
    } catch (error) {
      if (!(error instanceof PolicyError)) throw error
      this.#all.push(error)
      return []
    }
  }

  /** @throws {PolicyError} that says all of them, if there are any */
  throw(): void {
    const [first, ...others] = this.#all
    if (first) throw PolicyError.of([first, ...others], this.#file)
  }
}

const toEntries = (given: Keys, origin: Origin, path: Path, where: Where, flaws: Flaws): readonly KeyValueLine[] =>
  Object.entries(given).flatMap(([key, text]) =>
    flaws.in((): KeyValueLine => {
      const place = where([...path, key])
      const entry: KeyValueLine = [key, toText(text, key, place), origin, place]
      settle([entry])
      return entry
    }),
  )

const pathOf = (issue: v.BaseIssue<unknown>): Path => (issue.path ?? []).map(({ key }) => key as string | number)

type Tree = Record<string, unknown>

/**
 * Takes out what a path leads to, of what YAML has made; a list as a whole, since its other elements keep their places.
 *
 * @returns false if nothing is there
 */
function takeOut(given: unknown, path: Path): boolean {
  const element = path.findIndex((step) => typeof step === 'number')
  const steps = (element < 0 ? path : path.slice(0, element)).map(String)
  const last = steps.pop()
  const parent = steps.reduce((node, step) => node[step] as Tree, given as Tree)
  return last !== undefined && Object.hasOwn(parent, last) && delete parent[last]
}

/** Checks the types. What is wrong is taken out, until the rest is right. */
function checkTypes(given: unknown, where: Where, flaws: Flaws): v.InferOutput<typeof ConfigFile> {
  for (;;) {
    const checked = v.safeParse(ConfigFile, given, { abortEarly: true })
    if (checked.success) return checked.output
    const [issue] = checked.issues
    flaws.in(() => complain(issue, where))
    if (!takeOut(given, pathOf(issue))) flaws.throw()
  }
}

function complain(issue: v.BaseIssue<unknown>, where: Where): never {
  const path = pathOf(issue)
  const name = path.join('.')
  if (issue.expected === 'never') {
    const known = path.length > 1 ? membersOf(path.slice(0, -1).join('.')) : sections
    const hint = didYouMean(String(path.at(-1)), known) || `, allowed is ${known.join(', ')}`
    throw new PolicyError(`unknown key ${briefly(name)}`, where(path), hint)
  }
  const subject = name === '' ? 'the file' : name
  throw new PolicyError(
    `${subject} is ${KINDS[issue.received] ?? issue.received}`,
    where(path),
    `, allowed is ${issue.message}`,
  )
}

/** Most characters of a complaint about YAML, which may quote the whole file. */
const LENGTH = 200

function parseYaml(text: string, file: string): readonly [unknown, Where] {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const flaws = new Flaws(file)
  for (const { message, pos } of document.errors)
    flaws.in(() => {
      throw new PolicyError(message.slice(0, LENGTH), placeAt(lines, pos[0], file), '; correct the YAML there')
    })
  flaws.throw()
  return [toValue(document, file), locator(document, lines, file)]
}

function toValue(document: Document, file: string): unknown {
  try {
    return document.toJS() ?? {}
  } catch (error) {
    // Aliases that multiply what they stand for.
    throw new PolicyError((error as Error).message, { file }, '; write out what the aliases stand for')
  }
}

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
  const known = Object.keys((given as Tree).profiles ?? {})
  const { annotations, ceiling, log, metrics, limits, history, nri, reload, ...rest } = checkTypes(given, where, flaws)
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
