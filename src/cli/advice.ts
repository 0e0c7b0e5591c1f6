import { lstatSync } from 'node:fs'
import { stringify } from 'yaml'
import { shownJson } from '../calls/escape.ts'
import { capabilitiesFor } from '../policy/ineffective.ts'
import { fullName } from '../policy/key.ts'
import { callOf, type KeyName, keyNames, keys } from '../policy/keys.ts'
import { parsePolicy } from '../policy/settings.ts'
import { byKey, counted, shellWord } from '../shared/texts.ts'
import { table } from './output-format.ts'
import { familyOfShown, type RefusedKind, type SeenCalls, type UsedKey } from './run-report.ts'
import { writeNew } from './write-whole.ts'

/** Keys with their values in canonical text. */
export type Keys = ReadonlyMap<KeyName, string>

/** They say how another key is served and permit nothing, so they stay as they are given. */
export const MANNERS: ReadonlySet<KeyName> = new Set(['mount.shift', 'mount.nodev', 'mode'])

/** Without them a program gets other figures, but no refusal. */
const OPTIONAL: ReadonlySet<KeyName> = new Set(['sysinfo'])

export const wordsOf = (all: Keys): readonly string[] =>
  [...all].map(([key, value]) => (value === 'true' ? key : `${key}=${value}`))

/** Spells keys as options of a command line. */
export const asOptions = (all: Keys): string =>
  wordsOf(all)
    .map((each) => ` -c ${shellWord(each)}`)
    .join('')

/** Joins the values of keys: of lists all elements, otherwise the one that permits the most. */
export function joinValues(pairs: Iterable<readonly [KeyName, string]>): Keys {
  const values = byKey(pairs)
  return new Map(
    keyNames
      .filter((name) => values.has(name))
      .map((name): [KeyName, string] => {
        const all = values.get(name)!
        const most = all.reduce((one, other) => (keys[name].lowers(one, other) ? one : other))
        return [name, keys[name].isList ? keys[name].canonical(all.toSorted().join(',')) : most]
      }),
  )
}

/** Makes the values of keys of what was used, with the manners that belong to them. */
function valuesOf(used: readonly UsedKey[], given: Keys): Keys {
  const values = joinValues(used.map(({ key, value }) => [key, value]))
  const isNeeded = (name: KeyName): boolean => MANNERS.has(name) && [...values].some(([key]) => name.startsWith(key))
  return new Map([...values, ...[...given].filter(([name]) => isNeeded(name))])
}

export interface Advice {
  readonly keys: Keys
  readonly used: readonly UsedKey[]
  /** What may help, and does not change whether a call succeeds. */
  readonly optional: readonly UsedKey[]
  /** What was refused, once for each container. */
  readonly refused: readonly RefusedKind[]
  /** Keys that were given and not used; of a list, the elements. */
  readonly unused: readonly string[]
  /** Keys that were given, and without which calls that were refused would have been refused for that. */
  readonly passed: readonly string[]
  /** How many calls of further kinds there were, too many to be kept. */
  readonly unnamed: number
}

/** Returns what of a given key was not used: of a list, the elements. */
function unusedOf([name, value]: readonly [KeyName, string], used: Keys): readonly string[] {
  const now = used.get(name)
  if (MANNERS.has(name) || value === keys[name].default || now === value) return []
  if (!keys[name].isList || now === undefined) return wordsOf(new Map([[name, value]]))
  const rest = value.split(',').filter((element) => !now.split(',').includes(element))
  return rest.length === 0 ? [] : [`${name}=${rest.join(',')}`]
}

/** Joins what several calls or containers used: one row for each key, of a list for each element. */
function joined(used: readonly UsedKey[], values: Keys): readonly UsedKey[] {
  const rows = byKey(used.map((each) => [keys[each.key].isList ? `${each.key}=${each.value}` : each.key, each]))
  return [...rows.values()].map((all) => {
    const last = all.at(-1)!
    const value = keys[last.key].isList ? last.value : (values.get(last.key) ?? last.value)
    return { ...last, value, count: sum(all) }
  })
}

export function adviceOf({ used, refused, unnamed }: SeenCalls, given: Keys): Advice {
  const isOptional = ({ key }: UsedKey): boolean => OPTIONAL.has(key) && !given.has(key)
  const wanted = used.filter((each) => !isOptional(each))
  const all = valuesOf(wanted, given)
  const notUsed = (hasPassed: boolean): readonly string[] =>
    [...given].filter(([name]) => isPassed(name, refused) === hasPassed).flatMap((each) => unusedOf(each, all))
  return {
    keys: all,
    used: joined(wanted, all),
    optional: joined(used.filter(isOptional), all),
    refused,
    unused: notUsed(false),
    passed: notUsed(true),
    unnamed,
  }
}

/** What a refused call would take, once for each: the key and value, and the call's own key if that is not advised. */
const wantedBy = (refused: readonly RefusedKind[], all: Keys): ReadonlyMap<string, readonly RefusedKind[]> =>
  byKey(
    refused.map((each) => {
      const { key, value } = each.wants!
      const call: KeyName = callOf(key)
      const needs = [{ key: call, value: 'true' }, { key, value }, ...(each.needs ?? [])]
      const lacks = needs.filter((need) => need.key !== call || !all.has(call))
      return [wordsOf(new Map(lacks.map((need) => [need.key, need.value]))).join(' '), each]
    }),
  )

/** What the kernel answered to calls that were done, and calls that would be done but for observe mode. */
const NO_REFUSALS: ReadonlySet<string> = new Set(['kernelAnswered', 'observedAct'])

/** Whether a call was refused that this key had let come so far: without it, it would be refused for that. */
const isPassed = (name: KeyName, refused: readonly RefusedKind[]): boolean =>
  refused.some(
    ({ reason, call, wants }) =>
      reason !== 'keyOff' &&
      !NO_REFUSALS.has(reason) &&
      familyOfShown(call) === callOf(name) &&
      (name === callOf(name) || wants === undefined),
  )

const sum = (all: readonly { readonly count: number }[]): number => all.reduce((total, { count }) => total + count, 0)

/** The most refused keys that a table has. */
const LISTED = 20

/** @param hint what to do to try a key that was refused; nothing if that is not said */
export function formatAdvice(advice: Advice, hint: string): string {
  const { keys: all, used, optional, refused, unused, passed, unnamed } = advice
  const rows = used.map(({ key, value, count, call }) => [value === 'true' ? key : `${key}=${value}`, `${count}`, call])
  const calls = [{ title: 'CALLS', right: true }, { title: 'THE LAST ONE' }]
  const asked = [
    ...wantedBy(
      refused.filter(({ wants }) => wants !== undefined),
      all,
    ),
  ].map(([option, kinds]) => [...[option, `${sum(kinds)}`, kinds.at(-1)!.call, keys[kinds[0]!.wants!.key].help]])
  const others = refused.filter(({ wants, reason }) => wants === undefined && !NO_REFUSALS.has(reason))
  const barred = [...byKey(others.map((each) => [each.says, each]))].map(([says, kinds]) => [
    ...[`${sum(kinds)}`, kinds.at(-1)!.call, says],
  ])
  const caps = capabilitiesFor(parsePolicy(all))
  return [
    rows.length === 0 ? 'No key was used.\n' : table([{ title: 'USED' }, ...calls], rows),
    ...(caps.length === 0 ? [] : [`Capabilities that these keys need: ${caps.join(', ')}\n`]),
    ...optional.map(({ key, count }) => `Optional: ${key} (${counted(count, 'call')}): ${keys[key].help}\n`),
    ...(unused.length === 0 ? [] : [`Given, but not used: ${unused.join(' ')}\n`]),
    ...(passed.length === 0
      ? []
      : [`Given, and wanted only by calls that were refused all the same: ${passed.join(' ')}\n`]),
    ...(asked.length === 0
      ? []
      : [
          table([{ title: 'REFUSED' }, ...calls, { title: 'WHAT THE KEY ALLOWS' }], asked.slice(0, LISTED)) +
            more(asked) +
            hint,
        ]),
    ...(barred.length === 0
      ? []
      : [
          table(
            [{ title: 'REFUSED, WHATEVER THE KEYS' }, { title: 'THE LAST ONE' }, { title: 'WHY' }],
            barred.slice(0, LISTED),
          ) + more(barred),
        ]),
    ...(unnamed === 0 ? [] : [`${counted(unnamed, 'call')} of further kinds: too many to tell what they used\n`]),
  ].join('\n')
}

const more = (asked: readonly unknown[]): string => (asked.length > LISTED ? `and ${asked.length - LISTED} more\n` : '')

/** @param more members beside those of the advice */
export const jsonOf = ({ keys: all, refused, ...others }: Advice, more: object): string =>
  `${shownJson({
    keys: Object.fromEntries(all),
    capabilities: capabilitiesFor(parsePolicy(all)),
    ...others,
    refused: refused.map(({ kind: _, ...told }) => told),
    ...more,
  })}\n`

/** Checks, before anything runs, that there is no file of this name. @throws {Error} if there is */
export function requireAbsent(file: string): void {
  if (lstatSync(file, { throwIfNoEntry: false }))
    throw new Error(`Cannot write the profile ${JSON.stringify(file)}: it is there already; name another file`)
}

/** Writes the keys as a profile of the daemon's configuration, to a new file. */
export function writeAdvice(file: string, name: string, all: Keys): void {
  const profile = Object.fromEntries([...all].map(([key, value]) => [fullName(key), value]))
  try {
    writeNew(file, Buffer.from(stringify({ profiles: { [name]: profile } })))
  } catch (error) {
    throw new Error(`Cannot write the profile "${file}": ${(error as Error).message}; name another file`)
  }
}
