import { stringify } from 'yaml'
import { shownJson } from '../calls/escape.ts'
import { capabilitiesFor } from '../policy/ineffective.ts'
import { fullName } from '../policy/key.ts'
import { type KeyName, keyNames, keys } from '../policy/keys.ts'
import { parsePolicy } from '../policy/settings.ts'
import { byKey, counted, shellWord } from '../shared/texts.ts'
import { table } from './output-format.ts'
import type { RefusedKind, RunReport, UsedKey } from './run-report.ts'
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

/** Makes the values of keys of what was used: a list has all its elements, of numbers the highest counts. */
function valuesOf(used: readonly UsedKey[], given: Keys): Keys {
  const values = byKey(used.map(({ key, value }) => [key, value]))
  const joined = keyNames
    .filter((name) => values.has(name))
    .map((name): [KeyName, string] => {
      const all = values.get(name)!
      const highest = all.reduce((one, other) => (keys[name].lowers(one, other) ? one : other))
      return [name, keys[name].isList ? keys[name].canonical(all.toSorted().join(',')) : highest]
    })
  const manners = [...given].filter(([name]) => MANNERS.has(name) && joined.some(([key]) => name.startsWith(key)))
  return new Map([...joined, ...manners])
}

export interface Advice {
  readonly keys: Keys
  readonly used: readonly UsedKey[]
  /** What may help, and does not change whether a call succeeds. */
  readonly optional: readonly UsedKey[]
  /** Refused, although a key could allow it; once for each container. */
  readonly refused: readonly RefusedKind[]
  /** Options that were given in vain. */
  readonly unused: readonly string[]
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

export function adviceOf({ used, refused }: RunReport, given: Keys): Advice {
  const isOptional = ({ key }: UsedKey): boolean => OPTIONAL.has(key) && !given.has(key)
  const wanted = used.filter((each) => !isOptional(each))
  const all = valuesOf(wanted, given)
  return {
    keys: all,
    used: joined(wanted, all),
    optional: joined(used.filter(isOptional), all),
    refused: refused.filter(({ wants }) => wants !== undefined),
    unused: wordsOf(new Map([...given].filter(([name, value]) => !MANNERS.has(name) && all.get(name) !== value))),
  }
}

/** What a refused call would take, once for each key and value. */
const wantedBy = (refused: readonly RefusedKind[]): ReadonlyMap<string, readonly RefusedKind[]> =>
  byKey(refused.map((each) => [`${each.wants!.key}=${each.wants!.value}`, each]))

const sum = (all: readonly { readonly count: number }[]): number => all.reduce((total, { count }) => total + count, 0)

export function formatAdvice({ keys: all, used, optional, refused, unused }: Advice): string {
  const rows = used.map(({ key, value, count, call }) => [value === 'true' ? key : `${key}=${value}`, `${count}`, call])
  const needed =
    rows.length === 0
      ? 'No key is needed.\n'
      : table([{ title: 'NEEDED' }, { title: 'CALLS', right: true }, { title: 'THE LAST ONE' }], rows)
  const asked = [...wantedBy(refused)].map(([option, kinds]) => [
    option,
    `${sum(kinds)}`,
    kinds.at(-1)!.call,
    keys[kinds[0]!.wants!.key].help,
  ])
  const caps = capabilitiesFor(parsePolicy(all))
  return [
    needed,
    ...(caps.length === 0 ? [] : [`\nCapabilities: ${caps.join(', ')}\n`]),
    ...optional.map(({ key, count }) => `\nOptional: ${key} (${counted(count, 'call')}): ${keys[key].help}\n`),
    ...(unused.length === 0 ? [] : [`\nGiven, and not needed so: ${unused.join(' ')}\n`]),
    ...(asked.length === 0
      ? []
      : [
          `\n${table([{ title: 'REFUSED' }, { title: 'CALLS', right: true }, { title: 'THE LAST ONE' }, { title: 'WHAT THE KEY ALLOWS' }], asked)}`,
          'To try one of these too, give it with -c.\n',
        ]),
  ].join('')
}

/** @param more members beside those of the advice */
export const jsonOf = ({ keys: all, refused, ...others }: Advice, more: object): string =>
  `${shownJson({
    keys: Object.fromEntries(all),
    capabilities: capabilitiesFor(parsePolicy(all)),
    ...others,
    refused: refused.map(({ kind: _, ...told }) => told),
    ...more,
  })}\n`

/** Writes the keys as a profile of the daemon's configuration. */
export function writeAdvice(file: string, name: string, all: Keys): void {
  const profile = Object.fromEntries([...all].map(([key, value]) => [fullName(key), value]))
  try {
    writeNew(file, Buffer.from(stringify({ profiles: { [name]: profile } })))
  } catch (error) {
    throw new Error(`Cannot write the profile "${file}": ${(error as Error).message}; name another file`)
  }
}
