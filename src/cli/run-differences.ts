import { escaped } from '../calls/escape.ts'
import type { WrittenFiles } from '../runtimes/launch/root.ts'
import { counted, fewOf } from '../shared/texts.ts'
import type { RefusedKind, RunReport } from './run-report.ts'

type Files = WrittenFiles['files']

/** Where programs make names at random, which differ in each run: see ADVISE_HELP. */
const TEMPORARY = /^\/(?:tmp|var\/tmp|run|dev\/shm)\//
/** What is random in a name: at least as much as of mkdtemp(3), with a digit, or with large and small letters. */
const RANDOM = /^(?=.*\d|.*[A-Z].*[a-z]|.*[a-z].*[A-Z])[0-9A-Za-z]{6,}$/
const LETTER = /[0-9A-Za-z]/
/** How many names are compared: a second. Beyond that they are different. */
const COMPARISONS = 3_000_000

/** What was different in the second run. */
export interface Differences {
  readonly status: number
  readonly refused: readonly Omit<RefusedKind, 'kind'>[]
  readonly missing: readonly string[]
  readonly added: readonly string[]
  readonly changed: readonly string[]
  /** Names at random, with those that they have in the second run. What is below them is alike. */
  readonly renamed: Readonly<Record<string, string>>
}

/** Whether two names differ as names do that are made at random. */
function isRandom(one: string, other: string): boolean {
  if (one.length !== other.length) return false
  let [start, end] = [0, one.length]
  while (start < end && one[start] === other[start]) start++
  while (end > start && one[end - 1] === other[end - 1]) end--
  // What is random may begin or end alike.
  while (start > 0 && LETTER.test(one[start - 1]!)) start--
  while (end < one.length && LETTER.test(one[end]!)) end++
  return RANDOM.test(one.slice(start, end)) && RANDOM.test(other.slice(start, end))
}

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/'))
const nameIn = (path: string): string => path.slice(path.lastIndexOf('/') + 1)

/** Groups paths by the directory in which they are. */
function byParent(paths: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const groups = new Map<string, string[]>()
  for (const path of paths) {
    const group = groups.get(parentOf(path)) ?? []
    groups.set(parentOf(path), group)
    group.push(path)
  }
  return groups
}

/** Finds what is the same in both runs but for names at random. @returns the names, of what is not below another one */
function renames(
  old: Files,
  now: Files,
  missing: readonly string[],
  added: readonly string[],
): Readonly<Record<string, string>> {
  const [inOld, inNow] = [byParent(Object.keys(old)), byParent(Object.keys(now))]
  let comparisons = COMPARISONS
  const find = (path: string, others: Iterable<string>): string | undefined => {
    for (const other of others) {
      if (comparisons-- <= 0) return undefined
      if (isRandom(nameIn(path), nameIn(other)) && isAlike(path, other)) return other
    }
    return undefined
  }
  const isAlike = (one: string, other: string): boolean => {
    if (old[one] !== now[other]) return false
    const [below, left] = [inOld.get(one) ?? [], new Set(inNow.get(other))]
    if (below.length !== left.size) return false
    return below.every((path) => {
      const same = `${other}/${nameIn(path)}`
      const found = left.has(same) ? isAlike(path, same) && same : find(path, left)
      return typeof found === 'string' && left.delete(found)
    })
  }
  const found: Record<string, string> = {}
  const [isMissing, come] = [new Set(missing), byParent(added)]
  for (const [parent, paths] of byParent(missing)) {
    if (isMissing.has(parent)) continue
    const left = new Set(come.get(parent))
    for (const path of paths) {
      const other = find(path, left)
      if (other === undefined) continue
      left.delete(other)
      found[path] = other
    }
  }
  return found
}

/** Returns whether a path is one of these, or below it. */
function isBelow(paths: readonly string[]): (path: string) => boolean {
  const all = new Set(paths)
  return (path) => {
    for (let at = path; at !== ''; at = parentOf(at)) if (all.has(at)) return true
    return false
  }
}

export function compare(first: RunReport, second: RunReport): Differences {
  const before = new Set(first.refused.map(({ kind }) => kind))
  const [old, now] = [first.written.files, second.written.files]
  const paths = (files: Files, isOne: (path: string) => boolean): readonly string[] =>
    Object.keys(files).filter((path) => !TEMPORARY.test(path) && isOne(path))
  const [missing, added] = [
    paths(old, (path) => now[path] === undefined),
    paths(now, (path) => old[path] === undefined),
  ]
  const renamed = renames(old, now, missing, added)
  const [wasRenamed, isRenamed] = [isBelow(Object.keys(renamed)), isBelow(Object.values(renamed))]
  return {
    status: second.status,
    refused: second.refused.filter(({ kind }) => !before.has(kind)).map(({ kind: _, ...told }) => told),
    missing: missing.filter((path) => !wasRenamed(path)),
    added: added.filter((path) => !isRenamed(path)),
    changed: paths(now, (path) => (old[path] ?? now[path]) !== now[path]),
    renamed,
  }
}

/** Says the differences, a sentence each; none if there are none. */
export function sayDifferences(
  first: RunReport,
  { status, refused, missing, added, changed }: Differences,
): readonly string[] {
  const files = (paths: readonly string[], what: string): readonly string[] =>
    paths.length === 0
      ? []
      : [
          `${counted(paths.length, 'file')} ${what}: ${fewOf(paths.map((path) => escaped(Buffer.from(path, 'latin1'))))}`,
        ]
  return [
    ...(status === first.status ? [] : [`the command ended with ${status} instead of ${first.status}`]),
    ...refused.map(({ call, errno = 'left to the kernel', says }) => `refused only now: ${call}: ${errno}: ${says}`),
    ...files(missing, 'not written again'),
    ...files(added, 'not there before'),
    ...files(changed, 'with another type, mode, owner or device'),
  ]
}
