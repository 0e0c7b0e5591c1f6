import { spawnSync } from 'node:child_process'
import { existsSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { orElse } from '../kernel/error.ts'
import { Fd } from '../kernel/fd.ts'
import { PRINT_INPUT, STAT, statNumber } from '../kernel/procfs/status.ts'
import { ticksPerSecond } from '../kernel/system-info.ts'
import type { RefusalView } from '../memories/refusal-view.ts'
import { HISTORY_FILES } from '../processes/installation.ts'
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

/** The beginning of every line: its time, and in the line of a container its number, and when that ended. */
const HEAD = /^\{"time":"([^"]{24})"(?:,"type":"container","serial":(\d+),(?:"ended":"([^"]{24})")?)?/
/** The end of a container's line that was written to its end, and how many characters that has at most. */
const END = /\](?:,"droppedRefusals":\d+)?\}$/
const END_LENGTH = 40
/** What precedes all refusals, and the time of each. No text has it, since quotes in a text have a backslash. */
const [REFUSALS, TIME] = [',"refusals":[', '"time":"']
const TIME_LENGTH = 24
const LINE_FEED = 0x0a

/** Returns both files, the older one first. @throws {Error} of node:fs, except if there is no such file */
function filesIn(directory: string): readonly Buffer[] {
  const open = (name: string): Fd | undefined => {
    try {
      return new Fd(openSync(join(directory, name), 'r'))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  }
  // In this order, and once: if the daemon begins a new file meanwhile, this one becomes the one before it.
  using now = open(HISTORY_FILES.now)
  using before = open(HISTORY_FILES.before)
  const isSame = now && before && fstatSync(before.raw).ino === fstatSync(now.raw).ino
  return [isSame ? undefined : before, now].flatMap((file) => (file ? [readFileSync(file.raw)] : []))
}

/** Yields the lines that are not empty, the newest first. */
function* linesOf(files: readonly Buffer[]): Generator<string> {
  for (const bytes of files.toReversed()) {
    for (let end = bytes.length; end > 0; ) {
      const start = bytes.lastIndexOf(LINE_FEED, end - 1) + 1
      if (start < end) yield bytes.toString('latin1', start, end)
      end = start - 1
    }
  }
}

const milliseconds = (time: unknown): number => (typeof time === 'string' ? Date.parse(time) : Number.NaN)

/** Prints the `stat` of processes. */
const STATS = `for pid; do
  ${PRINT_INPUT} <"/proc/$pid/stat"
  printf '\\0'
done`
/** The longest wait for a program that needs milliseconds. */
const PATIENCE_MS = 1000

/**
 * Returns when processes were started, in ticks since boot, or undefined if they are gone. Another process looks: a
 * container may make who looks at its init wait for as long as it likes, see `InitLook`. Then the rest is missing.
 */
function startTimes(pids: readonly number[]): ReadonlyMap<number, number | undefined> {
  const present = pids.filter((pid) => existsSync(`/proc/${pid}`))
  if (present.length === 0) return new Map()
  const { stdout } = spawnSync('/bin/sh', ['-c', STATS, 'sh', ...present.map(String)], {
    ...{
      timeout: PATIENCE_MS,
      killSignal: 'SIGKILL',
      encoding: 'latin1',
      env: {},
      maxBuffer: Number.POSITIVE_INFINITY,
    },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const stats = (stdout ?? '').split('\0').slice(0, -1)
  return new Map(stats.map((stat, index) => [present[index]!, startOf(Buffer.from(stat, 'latin1'))]))
}

/** One that has ended stays a zombie (Z) until its parent asks. */
const startOf = (stat: Buffer): number | undefined =>
  /\) [ZX] /.test(stat.toString('latin1'))
    ? undefined
    : orElse(undefined, () => statNumber(stat, stat.length, STAT.startTime))

/**
 * Whether the init of a container that nobody has seen end is still there: then the daemon that served it is gone. If
 * nobody could look, it counts who has its number.
 */
function isThere({ init, started }: Entry, starts: ReturnType<typeof startTimes>): boolean {
  const pid = number(init)
  if (!starts.has(pid)) return pid > 0 && existsSync(`/proc/${pid}`)
  return (1000 * (starts.get(pid) ?? Number.NaN)) / ticksPerSecond() === started
}

/**
 * Makes the entry of a container that the directory would have, if that still had it. Of one that has outlived its
 * daemon, nobody knows the end: only that it came later.
 */
function containerOf(line: Entry, starts: ReturnType<typeof startTimes>): Entry {
  const { time, type: _, since, ended, refusals = [], ...rest } = line
  // In place: there may be tens of thousands, which nobody else has.
  for (const each of refusals as { time: unknown }[]) each.time = milliseconds(each.time)
  const isOrphan = ended === undefined && isThere(rest, starts)
  return {
    ...rest,
    ...(since === undefined ? {} : { since: milliseconds(since) }),
    ...(isOrphan ? { unserved: true } : { ended: milliseconds(ended ?? time), outlived: ended === undefined }),
    ...(ended === undefined ? { countedUntil: milliseconds(time) } : {}),
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
  const [last, events]: [{ readonly about: Entry; readonly isOld: boolean }[], Entry[]] = [[], []]
  const [seen, unread] = [new Set<string>(), new Map<number, number>()]
  let [corrupt, kinds] = [0, 0]
  let begun = isoOf(0)
  // The last line may be being written.
  let isWhole = files.at(-1)?.at(-1) === LINE_FEED
  for (const line of linesOf(files)) {
    const [, written, serial = '', ended] = HEAD.exec(line) ?? []
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
    if (about?.type === 'container') last.push({ about, isOld })
    else if (about && !isOld) events.push({ ...about, time: milliseconds(about.time) })
  }
  const starts = startTimes(last.flatMap(({ about }) => (about.ended === undefined ? [number(about.init)] : [])))
  const containers = last.flatMap(({ about, isOld }) => {
    const container = containerOf(about, starts)
    return !isOld || container.unserved === true ? [container] : []
  })
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

/** Returns the entries of history whose containers are still there, though nobody has seen them end. */
export function stillThere(entries: readonly Entry[]): readonly Entry[] {
  const starts = startTimes(entries.map(({ init }) => number(init)))
  return entries.filter((entry) => isThere(entry, starts))
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
