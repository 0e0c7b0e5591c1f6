import type { RefusalView } from '../memories/refusal-view.ts'
import type { ContainerView } from './container-view.ts'

type Row = Readonly<Record<string, unknown>>

/** What a program gets of a container in a list. */
export function summaryOf({ about: _, refusals, droppedRefusals: __, ...view }: ContainerView): Row {
  const [last] = refusals
  return { ...view, ...(last ? { lastRefusal: last.call, lastRefusalTime: last.time } : {}) }
}

/** Everything that is known of a container: what the directory says, and what was counted. */
export function everythingOf({ about, keys: _, ...view }: ContainerView): Row {
  const { on, index: __, number: ___, calls: ____, init: _____, ...said } = about
  return { ...said, ...view }
}

/** A kind of refusals, and whose it is. */
export interface RefusalRow extends RefusalView {
  readonly container: string
  readonly name: string
}

/** Returns the kinds of refusals of containers, the most frequent first. */
export const refusalsOf = (views: readonly ContainerView[]): readonly RefusalRow[] =>
  views
    .flatMap(({ id, name, refusals }) => refusals.map((refusal) => ({ container: id, name, ...refusal })))
    .sort((one, other) => other.count - one.count)
