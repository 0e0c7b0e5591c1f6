import * as v from 'valibot'
import { type Document, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument } from 'yaml'
import { briefly, didYouMean } from '../shared/texts.ts'
import { type Place, PolicyError } from './error.ts'
import { expandShort } from './key.ts'
import type { KeyValueLine, Origin } from './key-value-lines.ts'
import { keys, toKeyName } from './keys.ts'
import { settle } from './settings.ts'

/* YAML files that people write, whose errors are told all at once, each with its place. */

/** Names of JavaScript's own, which valibot leaves out of a map without a word. */
const RESERVED = ['__proto__', 'prototype', 'constructor']

/** A map of YAML; valibot alone would take a list for one. */
export const mapOf = <S extends v.GenericSchema>(schema: S, allowed: string) =>
  v.pipe(
    v.custom<v.InferInput<S>>((given) => typeof given === 'object' && given !== null && !Array.isArray(given), allowed),
    v.check(
      (given) => !RESERVED.some((name) => Object.hasOwn(given as object, name)),
      `one without ${RESERVED.join(', ')}`,
    ),
    schema,
  )

export const scalar = v.union([v.string(), v.boolean(), v.number()], 'a text, a number, true or false')
const value = v.union([scalar, v.array(scalar), v.record(v.string(), scalar)], 'a value, a list or a map of values')
/** Policy keys with their values. */
export const keyMapOf = (allowed: string) => mapOf(v.record(v.string(), value), allowed)

/** What JavaScript calls a value, in words of YAML. */
const KINDS: Readonly<Record<string, string>> = { Array: 'a list', Object: 'a map', null: 'empty', '""': 'empty' }

export type Path = readonly (string | number)[]
export type Where = (path: Path) => Place

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
export class Flaws {
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

/** Returns a map of policy keys as the lines of a policy, each with its place. */
export const toEntries = (
  given: Keys,
  origin: Origin,
  path: Path,
  where: Where,
  flaws: Flaws,
): readonly KeyValueLine[] =>
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
 * Takes out what a path leads to, of what YAML has made; a list instead of its element, since the other elements keep
 * their places.
 *
 * @returns false if nothing is there
 */
function takeOut(given: unknown, path: Path): boolean {
  const steps = (typeof path.at(-1) === 'number' ? path.slice(0, -1) : path).map(String)
  const last = steps.pop()
  const parent = steps.reduce((node, step) => node[step] as Tree, given as Tree)
  return last !== undefined && Object.hasOwn(parent, last) && delete parent[last]
}

/** The parts of schemas of valibot that say which keys there are. */
interface SchemaParts {
  readonly pipe?: readonly SchemaParts[]
  readonly options?: readonly SchemaParts[]
  readonly wrapped?: SchemaParts
  readonly entries?: Readonly<Record<string, SchemaParts>>
  /** Of an array, and of a record. */
  readonly item?: SchemaParts
  readonly value?: SchemaParts
}

/** Returns the keys that the map may have to which a path leads. */
function keysAt(
  { pipe = [], options = [], wrapped, entries, item, value }: SchemaParts,
  path: Path,
): readonly string[] {
  // What begins a pipe is in the pipe itself, but for a pipe of its own.
  const inner = pipe.filter((part, at) => at > 0 || part.pipe)
  const parts = [...inner, ...options, ...(wrapped ? [wrapped] : [])]
  const [step, ...rest] = path
  const next = step === undefined ? undefined : (entries?.[step] ?? item ?? value)
  return [
    ...(step === undefined ? Object.keys(entries ?? {}) : []),
    ...(next ? keysAt(next, rest) : []),
    ...parts.flatMap((part) => keysAt(part, path)),
  ]
}

/** After so many flaws the rest is not looked at: each takes a check of the whole file. */
const ENOUGH = 100

/** Checks the types. What is wrong is taken out, until the rest is right. */
export function checkTypes<S extends v.GenericSchema>(
  schema: S,
  given: unknown,
  { where, flaws }: { readonly where: Where; readonly flaws: Flaws },
): v.InferOutput<S> {
  for (let found = 0; ; found++) {
    const checked = v.safeParse(schema, given, { abortEarly: true })
    if (checked.success) return checked.output
    const [issue] = checked.issues
    flaws.in(() => complain(issue, where, schema as SchemaParts))
    if (!takeOut(given, pathOf(issue)) || found === ENOUGH) flaws.throw()
  }
}

function complain(issue: v.BaseIssue<unknown>, where: Where, schema: SchemaParts): never {
  const path = pathOf(issue)
  const name = path.join('.')
  if (issue.expected === 'never') {
    const known = keysAt(schema, path.slice(0, -1))
    const hint = didYouMean(String(path.at(-1)), known) || `, allowed is ${known.join(', ')}`
    throw new PolicyError(`unknown key ${briefly(name)}`, where(path), hint)
  }
  if (issue.received === 'undefined') {
    const holder = path.slice(0, -1)
    throw new PolicyError(`${holder.join('.') || 'the file'} lacks ${issue.expected}`, where(holder))
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

/**
 * Parses a file.
 *
 * @param isText whether every scalar stays the text that it is, such as 0666
 * @throws {PolicyError} for all that is wrong in its YAML
 */
export function parseYaml(text: string, file: string, isText = false): readonly [unknown, Where] {
  const lines = new LineCounter()
  // Otherwise the schema is that of the file's version of YAML.
  const schema = isText ? ({ schema: 'failsafe' } as const) : {}
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, ...schema })
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
