// Writes docs/guide/fidelity.md and test/fidelity/results.tsv from what the cases gave on each side.

import type { Case, Family } from './case.ts'
import { podmanReasons, type ReasonName, reasons } from './reasons.ts'
import type { SideName } from './sides.ts'

/** What one case gave. */
export interface Result {
  readonly family: string
  readonly case: Case
  readonly native: string
  readonly without: string
  readonly ours: string
  readonly podman: string
}

/** The results in the order of the families, of the outcomes of each side in the same order. */
export function resultsOf(
  families: readonly Family[],
  sides: Readonly<Record<Exclude<SideName, 'observed'>, readonly string[]>>,
): readonly Result[] {
  const cases = families.flatMap(({ name, cases }) => cases.map((one) => ({ family: name, case: one })))
  const at = (side: readonly string[], index: number): string => side[index] ?? ''
  return cases.map((one, index) => ({
    ...one,
    native: at(sides.native, index),
    without: at(sides.without, index),
    ours: at(sides.ours, index),
    podman: at(sides.podman, index),
  }))
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('<', '&lt;')
const row = (...cells: readonly (string | number)[]): string =>
  `| ${cells.map((one) => cell(String(one))).join(' | ')} |`
const table = (head: readonly string[], rows: readonly string[]): string =>
  [row(...head), row(...head.map(() => '---')), ...rows].join('\n')

const isOurs = ({ native, ours }: Result): boolean => native === ours
const isPodman = ({ ours, podman }: Result): boolean => ours === podman
const isWithout = ({ native, without }: Result): boolean => native === without
const sums = (some: readonly Result[]): readonly number[] => [
  some.length,
  some.filter(isWithout).length,
  some.filter(isOurs).length,
]

function sumsTable(families: readonly string[], results: readonly Result[]): string {
  const rows = families.map((family) => row(family, ...sums(results.filter((one) => one.family === family))))
  const head = ['calls', 'cases', 'equal without keys', 'equal with all keys']
  return table(head, [...rows, row('all of them', ...sums(results))])
}

function reasonsTable(results: readonly Result[]): string {
  const uses = (name: string): number => results.filter((one) => one.case.why === name && !isOurs(one)).length
  return table(
    ['reason', 'cases', 'explanation'],
    Object.keys(reasons).map((name) => row(name, uses(name), reasons[name as ReasonName])),
  )
}

/** What the calls returned; if both sides returned the same, also what the test saw then. */
function briefly(native: string, ours: string): readonly [native: string, ours: string] {
  const returned = (text: string): string => text.replace(/;.*/, '')
  return returned(native) === returned(ours) ? [native, ours] : [returned(native), returned(ours)]
}

/** What root of the host gets too is "=". */
const said = (text: string, native: string): string => (text === native ? '=' : text)

/** A row for all cases of the same calls with the same results for the same reason. */
function differencesTable(results: readonly Result[]): string {
  const rows = new Map<string, { readonly cells: readonly string[]; readonly names: string[] }>()
  for (const {
    family,
    case: { name, why = '' },
    native,
    ours,
  } of results.filter((one) => !isOurs(one))) {
    const cells = [family, ...briefly(native, ours), why]
    const { names } = rows.get(cells.join('\n')) ?? { names: [] }
    rows.set(cells.join('\n'), { cells, names: [...names, name] })
  }
  return table(
    ['calls', 'case', 'root of the host', 'with all keys', 'reason'],
    [...rows.values()].map(({ cells: [family = '', ...others], names }) => row(family, names.join('; '), ...others)),
  )
}

/** Every case as a line of tab-separated values, in the order of the families: what the page counts. */
export function listOf(results: readonly Result[]): string {
  const lines = results.map(({ family, case: { name, why = '' }, native, without, ours, podman }) =>
    [family, name, native, said(without, native), said(ours, native), said(podman, native), why].join('\t'),
  )
  return `${['calls', 'case', 'native', 'without keys', 'all keys', 'podman', 'reason'].join('\t')}\n${lines.join('\n')}\n`
}

function podmanTable(results: readonly Result[]): string {
  const of = (reason: string): readonly Result[] =>
    results.filter((one) => one.case.podman === reason && !isPodman(one))
  const callsOf = (reason: string): string => [...new Set(of(reason).map(({ family }) => family))].join('; ')
  const rows = Object.entries(podmanReasons).map(([reason, why]) => row(callsOf(reason), of(reason).length, why))
  return table(['calls', 'cases', 'explanation'], rows)
}

/** @param kernel what the page says of where it was taken */
export function pageOf(families: readonly Family[], results: readonly Result[], kernel: string): string {
  const names = families.map(({ name }) => name)
  return `# Fidelity

<!-- Generated by "npm run fidelity -- --write". Do not edit. -->

Does a call give a container what it gives root of the host? This page compares three callers for each call that Intercede serves: root
of the host, and root of a container of \`intercede run\`, without keys and with all keys. The cases follow the manual pages and the kernel's
sources. [Other people's tests](../internals/other-tests.md) run in the same three ways.

Taken on ${kernel}. A test compares the results of all cases (\`test/fidelity/cases/\`) with this page; on another kernel, each
difference must have a reason.

## Summary

${sumsTable(names, results)}

*Equal* means: the same result as for root of the host.

## Differences

With all keys (\`mount.shift\` on, each type in \`mount.allowed\`, \`max_priority\` 99), ${results.filter((one) => !isOurs(one)).length} cases give a different result than on the host. A
cell lists what each call returned and, if both sides returned the same, what the test saw afterwards. \`test/fidelity/results.tsv\` has more
of each case. The flags of mounts leave out nodev, which Intercede [adds](mount.md#security).

Not among the cases is \`umount("/")\`: for root of the host it makes the root read-only, and in a container, whose root the kernel locks, it
is EINVAL, as without Intercede.

${differencesTable(results)}

## Reasons

${reasonsTable(results)}

## With podman

Root of a podman container (\`--userns=auto --cap-add=all\`, its own seccomp profile with all keys) gets the host's result in ${results.filter((one) => one.native === one.podman).length}
cases. These differ from \`intercede run\`:

${podmanTable(results)}
`
}
