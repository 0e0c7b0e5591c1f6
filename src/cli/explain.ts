import { type ReasonCode, reasonCodes } from '../calls/reason.ts'
import { reasons } from '../calls/reasons.ts'
import { knownFileSystems } from '../keeper/known-file-systems.ts'
import type { DaemonTotals } from '../memories/daemon-totals.ts'
import type { ContainerView } from '../reader/container-fields.ts'
import type { RefusalRow } from '../reader/rows.ts'
import { FORMATS } from './formats.ts'
import { formatContainer, formatDropped, openFeeds, requireContainer, unmistakable } from './open-feed.ts'
import { asJson, byTemplate, formatCaller, formatValue, type OutputFormat, parseFormat } from './output-format.ts'
import { print } from './print.ts'
import { ago } from './table.ts'
import { kernelAnswer, type WaysToAllow, waysToAllow } from './ways-to-allow.ts'

interface ExplainOptions {
  readonly format?: string
  readonly feed?: string
}

type Explained = RefusalRow & Partial<WaysToAllow>

type Daemon = Partial<DaemonTotals>

let fileSystems: ReadonlySet<string> | undefined
/** Says whether the kernel has a file system, or whether that cannot be found out. */
function knows(name: string): boolean {
  fileSystems ??= knownFileSystems()
  return fileSystems.size === 0 || fileSystems.has(name)
}

/** An administrator can change nothing for a container that has ended. */
function rowsOf(view: ContainerView, all: readonly ContainerView[], daemon: Daemon): readonly Explained[] {
  if (view.refusals.length === 0) return []
  const around = { word: unmistakable(all, view.id), daemon, knows }
  return view.refusals.map((refusal) => ({
    container: view.id,
    name: view.name,
    ...refusal,
    ...(refusal.reason === 'kernelAnswered' ? { remedy: kernelAnswer(refusal) } : {}),
    ...(view.state === 'ended' ? {} : waysToAllow(view, refusal, around)),
  }))
}

function formatRefusal(row: Explained): string {
  const { count, call, verdict, errno, reason, says, remedy, time } = row
  const times = count === 1 ? 'once' : `${count} times, the last`
  return [
    `${formatContainer({ id: row.container, name: row.name })}: ${call}${formatCaller(row)}`,
    `  ${verdict}${errno ? ` with ${errno}` : ' to the kernel'}, ${times} ${ago(Date.now() - time)} [${reason}]`,
    `  why:  ${formatValue(says)}`,
    ...(remedy ? [`  what to do:  ${formatValue(remedy)}`] : []),
    ...(row.set === undefined ? [] : [`  now:  ${formatValue(row.set)}`, `  for good:  ${formatValue(row.forGood)}`]),
    ...(row.allows === undefined ? [] : [`  which allows:  ${formatValue(row.allows)}`]),
  ].join('\n')
}

const formatAllDropped = (views: readonly ContainerView[]): readonly string[] =>
  views.filter(({ droppedRefusals }) => droppedRefusals > 0).map(formatDropped)

function explainCode(reason: ReasonCode, format: OutputFormat): void {
  const [says, remedy] = reasons[reason]
  const row = { reason, says, remedy }
  if (format.kind === 'json') print(`${asJson([row])}\n`)
  else if (format.kind === 'template') print(`${byTemplate(format.template, row)}\n`)
  else print(`${reason}: ${says}\n${remedy ? `what to do: ${remedy}\n` : ''}`)
}

export function explainCommand(word: string | undefined, { format: given, feed: path }: ExplainOptions): void {
  const format = parseFormat(given, FORMATS.explain)
  const code = reasonCodes.find((each) => each === word)
  if (code !== undefined) {
    explainCode(code, format)
    return
  }
  using feeds = openFeeds(path)
  const all = feeds.containers(true)
  const views = word === undefined ? all.filter(({ state }) => state !== 'ended') : [requireContainer(all, word)]
  const daemon = feeds.daemon?.directory.daemon ?? {}
  const rows = views.flatMap((view) => rowsOf(view, all, daemon)).sort((one, other) => other.count - one.count)
  if (format.kind === 'json') print(`${asJson(rows)}\n`)
  else if (format.kind === 'template') for (const row of rows) print(`${byTemplate(format.template, { ...row })}\n`)
  else
    print(
      rows.length === 0
        ? 'Nothing was refused.\n'
        : `${[...rows.map(formatRefusal), ...formatAllDropped(views)].join('\n\n')}\n`,
    )
}
