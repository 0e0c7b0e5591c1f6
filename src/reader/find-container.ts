import { escaped } from '../calls/escape.ts'
import { briefly } from '../shared/briefly.ts'
import type { ContainerView } from './container-fields.ts'

/** The most containers that a sentence names. */
const NAMED = 5

/** Prefers present containers; among ended ones, the last one. */
function liveOrLast(found: readonly ContainerView[]): readonly ContainerView[] {
  const live = found.filter(({ state }) => state !== 'ended')
  return live.length > 0 ? live : found.slice(-1)
}

/** A restarted container appears twice with its id: as present and as ended. */
const eachOnce = (found: readonly ContainerView[]): readonly ContainerView[] =>
  [...new Set(found.map(({ id }) => id))].flatMap((id) => liveOrLast(found.filter((each) => each.id === id)))

/** At least as much of an id as engines print. The container may be forgotten when somebody types such an id. */
const IS_LIKE_AN_ID = /^[0-9a-f]{12,}$/

/**
 * Finds a container by its id, its name, or the beginning of its id. Whoever starts a container may choose its name, so
 * a name never wins over the id of another container, or over the beginning of that id.
 *
 * @returns the matching containers: none, one, or several if the word is ambiguous
 */
export function findContainer(all: readonly ContainerView[], word: string): readonly ContainerView[] {
  // Most containers have no name.
  if (word === '') return []
  const exact = all.filter(({ id }) => id === word)
  if (exact.length > 0) return liveOrLast(exact)
  const named = liveOrLast(all.filter(({ name }) => name === word))
  const begun = eachOnce(all.filter(({ id }) => id.startsWith(word)))
  if (begun.length === 0 && IS_LIKE_AN_ID.test(word)) return []
  return [...named, ...begun.filter(({ id }) => named.every((other) => other.id !== id))]
}

function listNames(found: readonly ContainerView[]): string {
  const ids = found.slice(0, NAMED).map(({ id }) => escaped(id))
  return ids.join(', ') + (found.length > NAMED ? ` and ${found.length - NAMED} more` : '')
}

/** Returns the message that a word matches several containers, with their names. */
export function describeAmbiguity(found: readonly ContainerView[], word: string): string {
  const named = found.filter(({ name }) => name === word)
  const begun = found.filter(({ name }) => name !== word)
  const why = [
    ...(named.length > 0 ? [`it is the name of ${listNames(named)}`] : []),
    ...(named.length > 0 && begun.length > 0 ? ['and the beginning of'] : []),
    ...(begun.length > 0 ? [listNames(begun)] : []),
    ...(named.length === 0 ? ['begin so'] : []),
  ].join(' ')
  return `Cannot tell which container ${briefly(word)} is: ${why}; give ${named.length > 0 ? 'the whole id' : 'more of its id'}`
}
