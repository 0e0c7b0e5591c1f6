import type { RefusalView } from '../memories/refusal-view.ts'
import { type ContainerView, LIST_FIELDS, MADE_IN_DETAIL } from './container-fields.ts'

type Row = Readonly<Record<string, unknown>>

/** A container in a list, for programs. */
export const summaryOf = (view: ContainerView): Row => pick(view, LIST_FIELDS)

/** Everything that is known about a container: the directory's entry and the counts. */
export function everythingOf(view: ContainerView): Row {
  const { on, index: _, number: __, calls: ___, init: ____, ...said } = view.about
  return { ...said, ...pick(view, MADE_IN_DETAIL) }
}

function pick(view: ContainerView, names: readonly string[]): Row {
  const row: Record<string, unknown> = {}
  for (const name of names) row[name] = (view as unknown as Row)[name]
  return row
}

/** A kind of refusals, with its container. */
export interface RefusalRow extends RefusalView {
  readonly container: string
  readonly name: string
}

/** Returns the kinds of refusals of containers, the most frequent first. */
export const refusalsOf = (views: readonly ContainerView[]): readonly RefusalRow[] =>
  views
    .flatMap(({ id, name, refusals }) => refusals.map((refusal) => ({ container: id, name, ...refusal })))
    .sort((one, other) => other.count - one.count)
