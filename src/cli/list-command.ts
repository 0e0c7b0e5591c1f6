import type { ContainerView } from '../reader/container-view.ts'
import { findRuns } from '../reader/runs.ts'
import type { ListName } from './list-names.ts'
import { openFeeds, RUN, shortId } from './open-feed.ts'
import { shownValue } from './output-format.ts'
import { print } from './print.ts'

/** A word of a command line, and what stands behind it. */
type Offer = readonly [word: string, about: string]

/**
 * A text that is one word to every shell, as it is. Names come from containers: no other name is offered, so that no
 * shell has to quote one.
 */
const PLAIN = /^[A-Za-z0-9][\w.@+/:-]{0,254}$/
const isPlain = (text: string): boolean => PLAIN.test(text)

const isAlone = (name: string, all: readonly ContainerView[]): boolean =>
  all.filter((view) => view.name === name && view.state !== 'ended').length <= 1

/** A container has its name, or its id where the name is none; once something is typed, it has both. */
function offersOf(view: ContainerView, all: readonly ContainerView[], begun: string): readonly Offer[] {
  const { name, runtime, state } = view
  const id = shortId(view.id)
  const byName = isPlain(name) && isAlone(name, all) ? [[name, `${id}, ${runtime}, ${state}`] as const] : []
  const byId =
    isPlain(id) && (byName.length === 0 || begun !== '') ? [[id, `${name}, ${runtime}, ${state}`] as const] : []
  return [...byName, ...byId]
}

/** @param all also those that have ended, and those of `intercede run`, whose keys nobody can set */
function containers(all: boolean, begun: string, feed: string | undefined): readonly Offer[] {
  using feeds = openFeeds(feed)
  const views = feeds.containers(all).filter(({ runtime }) => all || runtime !== RUN)
  return views.flatMap((view) => offersOf(view, views, begun))
}

const lists: Readonly<Record<ListName, (begun: string, feed: string | undefined) => readonly Offer[]>> = {
  containers: (begun, feed) => containers(true, begun, feed),
  live: (begun, feed) => containers(false, begun, feed),
  runs: () => findRuns().map(({ id, pid }) => [id, `process ${pid}`]),
}

/**
 * Prints what a shell may offer: a word, a tab, and what it is, on a line each. A shell asks while somebody types, so
 * this says nothing of what is wrong.
 */
export function listCommand(list: ListName, begun: string, feed: string | undefined): void {
  try {
    const offers = new Map(lists[list](begun, feed).filter(([word]) => isPlain(word) && word.startsWith(begun)))
    print([...offers].map(([word, about]) => `${word}\t${shownValue(about)}\n`).join(''))
  } catch {
    // There is no daemon, or it is not for this user.
  }
}
