import { orElse } from '../kernel/error.ts'
import type { RefusalView } from '../memories/refusal-view.ts'
import { filesIn, LINE_FEED, LINE_HEAD, newestFirst, stillThere } from '../processes/history-lines.ts'
import { asciiJson } from '../shared/texts.ts'
import { LXC, namesOf, number, text } from './container-fields.ts'
import { type Entry, escapeOtherMembers } from './directory-reader.ts'
import { daemonEvent, type EventView, type shownSince } from './event-stream.ts'
import type { FeedReader } from './feed.ts'

/** What history has of a time. */
export interface PastLines {
  /** The last line of each container, the oldest first; entries like those of the directory. */
  readonly containers: readonly Entry[]
  /** What happened to containers and the daemon, the oldest first. */
  readonly events: readonly Entry[]
  /** How many kinds of refusals further containers have, by their numbers: see `Few`. */
  readonly unread: ReadonlyMap<number, number>
  /** When the oldest line was written, in milliseconds since 1970; 0 without lines. */
  readonly begun: number
  /** How many lines could not be written. */
  readonly lost: number
  /** How many lines cannot be read: they were torn by a crash, or changed by somebody. */
  readonly corrupt: number
}

/** The end of a container's line that was written to its end, and how many characters that has at most. */
const END = /\](?:,"droppedRefusals":\d+)?\}$/
const END_LENGTH = 40
/** What precedes all refusals, and the time of each. No text has it, since quotes in a text have a backslash. */
const [REFUSALS, TIME] = [',"refusals":[', '"time":"']
const TIME_LENGTH = 24

const milliseconds = (time: unknown): number => (typeof time === 'string' ? Date.parse(time) : Number.NaN)

/**
 * Makes the entry of a container that the directory would have, if that still had it. Of one that has outlived its
 * daemon, nobody knows the end: only that it came later than its calls were counted.
 *
 * @param isOrphan whether it still runs, though nobody has seen it end: the daemon that served it is gone
 */
function containerOf(line: Entry, isOrphan: boolean): Entry {
  const { time, type: _, since, ended, counted = time, refusals = [], ...rest } = line
  // In place: there may be tens of thousands, which nobody else has.
  for (const each of refusals as { time: unknown }[]) each.time = milliseconds(each.time)
  return {
    ...rest,
    ...(since === undefined ? {} : { since: milliseconds(since) }),
    ...(isOrphan ? { unserved: true } : { ended: milliseconds(ended ?? counted), outlived: ended === undefined }),
    ...(ended === undefined ? { countedUntil: milliseconds(counted) } : {}),
    refusals,
  }
}

/** What is no printable ASCII once JSON is read. Nearly no line has any. */
const UNPRINTABLE = /[^ -~]|\\[^"\\]/

const areObjects = (all: unknown): boolean =>
  Array.isArray(all) && all.every((each) => typeof each === 'object' && each !== null)

/** Parses a line. @returns undefined if it is none of ours */
function parse(line: string): Entry | undefined {
  try {
    const about = JSON.parse(line) as Entry
    if (Number.isNaN(milliseconds(about.time)) || typeof about.type !== 'string') return undefined
    if (about.refusals !== undefined && !areObjects(about.refusals)) return undefined
    return UNPRINTABLE.test(line) ? escapeOtherMembers(about) : about
  } catch {
    return undefined
  }
}

/** Returns what every line of a container has that the word may mean. A name may consist of namespace and pod. */
const partOf = (word: string): string => asciiJson(word.split('/').at(-1)).slice(1, -1)

/**
 * What lines have that a word never leaves out: that of a process exec'd into an unknown container, which may lack the
 * name that the container had, and that of lost lines.
 */
const OF_ALL = ['"barred":{"code":"unknownContainer"', '"type":"historyLost"']

/** Counts the kinds of refusals in a line whose last call was made at a time or later, without parsing it. */
function kindsIn(line: string, since: string): number {
  let kinds = 0
  let at = line.indexOf(TIME, line.indexOf(REFUSALS))
  for (; at >= 0; at = line.indexOf(TIME, at + TIME_LENGTH)) {
    const start = at + TIME.length
    if (line.slice(start, start + TIME_LENGTH) >= since) kinds++
  }
  return kinds
}

/** How many kinds of refusals are wanted whole: those of the containers that ended last. */
export interface Few {
  readonly most: number
  /** Leaves out refusals before that, in milliseconds since 1970. */
  readonly since: number
}

/** Formats a time like those in lines, which makes them comparable. */
const isoOf = (time: number): string => new Date(Math.max(0, time)).toISOString()

/**
 * Reads history, which works without a daemon. Only the last line of each container is parsed, since it has all of the
 * earlier ones.
 *
 * @param since leaves out what was written before, in milliseconds since 1970, except containers that still run
 * @param word leaves out lines without this text: other containers than those which it may mean
 * @param few once there are so many, containers that ended earlier are `unread`
 * @throws {Error} if it may not be read
 */
export function readHistory(directory: string, since: number, word = '', few?: Few): PastLines {
  const [from, part, wanted] = [isoOf(since), partOf(word), isoOf(few?.since ?? 0)]
  const files = filesIn(directory)
  const [last, events]: [Entry[], Entry[]] = [[], []]
  const [seen, unread] = [new Set<string>(), new Map<number, number>()]
  let [corrupt, kinds] = [0, 0]
  let begun = isoOf(0)
  // The last line may be being written.
  let isWhole = files.at(-1)?.at(-1) === LINE_FEED
  for (const line of newestFirst(files)) {
    const [, written, serial = '', ended] = LINE_HEAD.exec(line) ?? []
    const time = written ?? from
    begun = written ?? begun
    if (seen.has(serial)) continue
    const isOld = time < from
    const isPast = isOld && (serial === '' || ended !== undefined)
    const isLeftOut =
      isPast || (line.endsWith('}') && !line.includes(part) && !OF_ALL.some((each) => line.includes(each)))
    const isCounted = few !== undefined && !isLeftOut && ended !== undefined && END.test(line.slice(-END_LENGTH))
    const count = isCounted ? kindsIn(line, wanted) : 0
    const isUnread = isCounted && kinds >= few.most
    kinds += count
    if (isUnread && count > 0) unread.set(Number(serial), count)
    const isSkipped = isLeftOut || isUnread
    const about = isSkipped ? undefined : parse(line)
    if (!isSkipped && !about && isWhole) corrupt++
    isWhole = true
    // A line that a crash has cut off hides no earlier one.
    if (serial !== '' && (isSkipped || about)) seen.add(serial)
    if (about?.type === 'container') last.push(about)
    else if (about && !isOld) events.push({ ...about, time: milliseconds(about.time) })
  }
  const orphans = new Set(stillThere(last.filter(({ ended }) => ended === undefined)))
  const isWanted = (about: Entry): boolean => String(about.counted ?? about.time) >= from || orphans.has(about)
  const containers = last.filter(isWanted).map((about) => containerOf(about, orphans.has(about)))
  const all = { containers: containers.reverse(), events: events.reverse() }
  const lost = events.reduce((sum, { type, count }) => sum + (type === 'historyLost' ? number(count) : 0), 0)
  return { ...all, unread, begun: milliseconds(begun), lost, corrupt }
}

/**
 * Returns the containers that outlived an earlier daemon, and that this one does not serve; undefined if no history can
 * tell. One of LXC is left out: its next call asks the daemon that is there.
 */
export function outlivedIn({ directory }: FeedReader): readonly Entry[] | undefined {
  const { history } = directory.daemon
  if (history === undefined) return undefined
  const past = orElse(undefined, () => readHistory(history, Date.now()).containers)
  const served = new Set(directory.containers.map(({ serial }) => number(serial)))
  return past?.filter(
    ({ serial, unserved, runtime }) => unserved === true && runtime !== LXC && !served.has(number(serial)),
  )
}

/** The last call of each kind of refusals of a container. */
const refusalEvents = (about: Entry): readonly EventView[] =>
  ((about.refusals ?? []) as readonly RefusalView[]).map(({ wants: _, errno, ...refusal }) => ({
    ...refusal,
    ...(errno === undefined ? {} : { errno }),
    ...{ type: 'refusals', container: text(about.id), ...namesOf(about) },
    syscall: /^\w+/.exec(refusal.call)?.[0] ?? '',
  }))

const AFTER_A_KILL = 'the daemon serves from now on; the one before it was killed, or failed, and could not say so'

/**
 * Returns what history has of a time, like the events of a daemon.
 *
 * @param until what the daemon itself still shows: calls and events from these times on
 */
export function pastEvents(
  { containers, events }: PastLines,
  until: ReturnType<typeof shownSince>,
): readonly EventView[] {
  const refusals = containers
    .flatMap(refusalEvents)
    .filter(({ first, time }) => (first === undefined ? time : Date.parse(first)) < until.calls)
  const names = new Map(containers.map((about) => [about.id, namesOf(about)]))
  // A daemon that was killed leaves no event: the next one's start tells.
  let runs = false
  const others = events.flatMap((entry) => {
    const { container, changed, type } = entry
    const message = type === 'started' && runs ? { message: AFTER_A_KILL } : {}
    runs = type !== 'stopped'
    // No daemon shows what could not be written.
    if (Number(entry.time) >= until.events && type !== 'historyLost') return []
    return [
      {
        ...daemonEvent({ ...entry, ...message, id: container }, names.get(container)),
        ...(changed === undefined ? {} : { changed }),
      },
    ]
  })
  return [...refusals, ...others].sort((one, other) => one.time - other.time)
}
