import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const src = fileURLToPath(new URL('../../src/', import.meta.url))
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))
const texts = new Map(files.map((file) => [file, readFileSync(join(src, file), 'utf8')]))

/** A table of states in a comment, a row as ` *   FROM -> TO   Class.method(), by whom: why`. */
interface Table {
  readonly file: string
  readonly rows: readonly (readonly [from: string, to: string, by: string])[]
  readonly comment: string
  /** The names of the states, where these follow the table as an object. */
  readonly states: readonly string[] | undefined
}

const ROW = /^ \* {3}(\w+) -> (\w+) +(.+)$/gm
const COMMENT = /\/\*\*\n(?: \*.*\n)+? \*\/\n(?:(?:export )?const \w+ = \{([^}]*)\} as const)?/g

const tables: readonly Table[] = [...texts].flatMap(([file, text]) =>
  [...text.matchAll(COMMENT)].flatMap(([comment, object]) => {
    const rows = [...comment.matchAll(ROW)].map(([, from, to, by]) => [from!, to!, by!] as const)
    const states = object && [...object.matchAll(/(\w+):/g)].map(([, name]) => name!)
    return rows.length === 0 ? [] : [{ file, rows, comment, states: states || undefined }]
  }),
)

/** Is there such a method or function, of a class or an interface of this name? */
function exists(name: string, method: string): boolean {
  const home = [...texts.values()].find((text) => new RegExp(`(?:class|interface) ${name}\\b`).test(text))
  return home !== undefined && new RegExp(`^  (?:readonly )?${method}(?:<\\w+>)?(?:\\(|: )`, 'm').test(home)
}

function reachable(rows: Table['rows']): ReadonlySet<string> {
  const seen = new Set([rows[0]![0]])
  for (let before = 0; before < seen.size; ) {
    before = seen.size
    for (const [from, to] of rows) if (seen.has(from)) seen.add(to)
  }
  return seen
}

test('there is a table for every machine of states in shared memory', () => {
  expect(tables.map(({ file }) => file).sort()).toEqual([
    'caller/programs/bpf-program-store.ts',
    'engine/execs/exec-job.ts',
    'engine/facts/device-rules-cache.ts',
    'engine/helpers/mounters.ts',
    'engine/helpers/spawn-guard.ts',
    'engine/kept/fs-context-store.ts',
    'engine/kept/shared-entries.ts',
    'engine/leader/dedicated-receiver.ts',
    'engine/leader/leader-word.ts',
    'engine/leader/parking-lot.ts',
    'engine/leader/thread-activity.ts',
    'engine/lxc/lxc-proxy.ts',
    'engine/replay/reply-cache.ts',
    'engine/tables/walker-table.ts',
    'engine/thread/lane.ts',
    'link/journal.ts',
    'shared/lock.ts',
    'shared/words.ts',
  ])
})

test.each(tables)('the table of $file names methods that there are, and states that can be reached', (table) => {
  const { rows, comment, states } = table
  const named = rows.map(([, , by]) => [...by.matchAll(/(\w+)\.(\w+)\(\)/g)])
  expect(rows.filter((_, row) => named[row]!.length === 0)).toEqual([])
  const missing = named.flat().filter(([, name, method]) => !exists(name!, method!))
  expect(missing.map(([call]) => call)).toEqual([])
  const inRows = new Set([...rows.map(([from]) => from), ...rows.map(([, to]) => to)])
  expect([...inRows].filter((state) => !reachable(rows).has(state))).toEqual([])
  if (!states) return
  expect([...inRows].filter((state) => !states.includes(state))).toEqual([])
  // A state without a way to it or from it is told in words.
  expect(states.filter((state) => !inRows.has(state) && !comment.includes(`${state}:`))).toEqual([])
})

const CLASS = /((?: \*.*\n)+|\/\*\* .*\n)?(?:export )?class (\w+)[^{]*\{([\s\S]*?)\n\}/g
const SHARED_WORDS = /^ {2}readonly #?\w+(?:: (?:Int32Array|Locks)\b| = new Int32Array\(new Shared)/m

test('every class over words of shared memory says, as Invariant: or Preconditions:, which thread may call what', () => {
  const over = [...texts].flatMap(([file, text]) =>
    [...text.matchAll(CLASS)].flatMap(([, comment = '', name, body]) =>
      SHARED_WORDS.test(body!) ? [{ file, name, says: /(?:Invariant|Preconditions?): /.test(comment) }] : [],
    ),
  )
  expect(over.length).toBeGreaterThan(20)
  expect(over.filter(({ says }) => !says)).toEqual([])
})
