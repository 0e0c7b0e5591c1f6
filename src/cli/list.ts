import { type ContainerView, RUN } from '../reader/container-fields.ts'
import { findRuns } from '../reader/runs.ts'
import { type Asked, isPlain, type ListName, type Offer, printOffers } from './completion.ts'
import { openFeeds, shortId } from './open-feed.ts'

const isAlone = (name: string, all: readonly ContainerView[]): boolean =>
  all.filter((view) => view.name === name && view.state !== 'ended').length <= 1

/** A container has its name, or its id where the name is none; once something is typed, it has both. */
function offersOf(view: ContainerView, all: readonly ContainerView[], begun: string): readonly Offer[] {
  const { name, runtime, state } = view
  const id = shortId(view.id)
  const byName = isPlain(name) && isAlone(name, all) ? [[name, `${id}, ${runtime}, ${state}`] as const] : []
  const byId = byName.length === 0 || begun !== '' ? [[id, `${name}, ${runtime}, ${state}`] as const] : []
  return [...byName, ...byId]
}

/** @param all also those that have ended, and those of `intercede run`, whose keys nobody can set */
function containers(all: boolean, { begun, feed }: Asked): readonly Offer[] {
  using feeds = openFeeds(feed)
  const views = feeds.containers(all).filter(({ runtime }) => all || runtime !== RUN)
  return views.flatMap((view) => offersOf(view, views, begun))
}

const lists: Readonly<Record<Exclude<ListName, 'profiles'>, (asked: Asked) => readonly Offer[]>> = {
  containers: (asked) => containers(true, asked),
  live: (asked) => containers(false, asked),
  runs: () => findRuns().map(({ id, pid }) => [id, `process ${pid}`]),
}

/** Prints the words for containers that a shell may offer. */
export const listCommand = (list: keyof typeof lists, asked: Asked): void =>
  printOffers(asked, () => lists[list](asked))
