import { execFile, spawnSync } from 'node:child_process'
import { existsSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { orElse } from '../kernel/error.ts'
import { Fd } from '../kernel/fd.ts'
import { PRINT_INPUT, STAT, statNumber } from '../kernel/procfs/status.ts'
import { ticksPerSecond } from '../kernel/system-info.ts'
import { HISTORY_FILES } from './installation.ts'

/** A line of history, parsed. */
export type Line = Readonly<Record<string, unknown>>

/** The beginning of every line: its time, and in the line of a container its number, and when that ended. */
export const LINE_HEAD = /^\{"time":"([^"]{24})"(?:,"type":"container","serial":(\d+),(?:"ended":"([^"]{24})")?)?/
const HEAD_LENGTH = 128
export const LINE_FEED = 0x0a

/** Returns both files, the older one first. @throws {Error} of node:fs, except if there is no such file */
export function filesIn(directory: string): readonly Buffer[] {
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
export function* newestFirst(files: readonly Buffer[]): Generator<string> {
  for (const bytes of files.toReversed()) {
    for (let end = bytes.length; end > 0; ) {
      const start = bytes.lastIndexOf(LINE_FEED, end - 1) + 1
      if (start < end) yield bytes.toString('latin1', start, end)
      end = start - 1
    }
  }
}

/** Prints the `stat` of processes. */
const STATS = `for pid; do
  ${PRINT_INPUT} <"/proc/$pid/stat"
  printf '\\0'
done`
/** Its options: the longest wait for what needs milliseconds. */
const OPTIONS = {
  timeout: 1000,
  killSignal: 'SIGKILL',
  encoding: 'latin1',
  env: {},
  maxBuffer: Number.POSITIVE_INFINITY,
} as const

/** When processes were started, in ticks since boot, or undefined if they are gone. */
type Starts = ReadonlyMap<number, number | undefined>

/**
 * Another process looks: a container may make who looks at its init wait for as long as it likes, see `InitLook`. Then
 * the rest is missing.
 */
const lookAt = (pids: readonly number[]): readonly string[] => ['-c', STATS, 'sh', ...pids.map(String)]

const startsIn = (pids: readonly number[], stats: string): Starts =>
  new Map(
    stats
      .split('\0')
      .slice(0, -1)
      .map((stat, index) => [pids[index]!, startOf(Buffer.from(stat, 'latin1'))]),
  )

/** One that has ended stays a zombie (Z) until its parent asks. */
const startOf = (stat: Buffer): number | undefined =>
  /\) [ZX] /.test(stat.toString('latin1'))
    ? undefined
    : orElse(undefined, () => statNumber(stat, stat.length, STAT.startTime))

const initOf = ({ init }: Line): number => (typeof init === 'number' ? init : 0)

/** Returns the numbers of inits that some process has. */
const presentIn = (lines: readonly Line[]): readonly number[] =>
  lines.map(initOf).filter((pid) => pid > 0 && existsSync(`/proc/${pid}`))

/** If nobody could look, it counts who has the number of the init. */
function withInit(lines: readonly Line[], present: readonly number[], starts: Starts): readonly Line[] {
  const all = new Set(present)
  return lines.filter((line) => {
    const pid = initOf(line)
    if (!starts.has(pid)) return all.has(pid)
    return (1000 * (starts.get(pid) ?? Number.NaN)) / ticksPerSecond() === line.started
  })
}

/** Returns the lines whose containers still have their init. */
export function stillThere(lines: readonly Line[]): readonly Line[] {
  const pids = presentIn(lines)
  if (pids.length === 0) return []
  const { stdout } = spawnSync('/bin/sh', lookAt(pids), { ...OPTIONS, stdio: ['ignore', 'pipe', 'ignore'] })
  return withInit(lines, pids, startsIn(pids, stdout ?? ''))
}

/** Passes them on later: the daemon must not wait. */
export function findStillThere(lines: readonly Line[], found: (there: readonly Line[]) => void): void {
  const pids = presentIn(lines)
  if (pids.length === 0) found([])
  else execFile('/bin/sh', lookAt(pids), OPTIONS, (_, stdout) => found(withInit(lines, pids, startsIn(pids, stdout))))
}

/** Returns, by number, the last lines of containers that nobody has seen end. */
export function unendedIn(directory: string): ReadonlyMap<number, Line> {
  const all = new Map<number, (() => string)[]>()
  for (const bytes of filesIn(directory)) {
    for (let start = 0, end = 0; start < bytes.length; start = end + 1) {
      const [from, next] = [start, bytes.indexOf(LINE_FEED, start)]
      end = next < 0 ? bytes.length : next
      // A daemon that starts has no time for all of each line.
      const head = LINE_HEAD.exec(bytes.toString('latin1', from, Math.min(end, from + HEAD_LENGTH)))
      const serial = Number(head?.[2])
      const line = bytes.toString.bind(bytes, 'latin1', from, end)
      const before = all.get(serial)
      if (head?.[3] !== undefined) all.delete(serial)
      else if (before) before.push(line)
      else if (serial > 0) all.set(serial, [line])
    }
  }
  const last = [...all.values()].map(lastWhole).filter((line) => line !== undefined)
  return new Map(last.map((line) => [Number(line.serial), line]))
}

/** A line that a crash has cut off hides no earlier one. */
function lastWhole(lines: readonly (() => string)[]): Line | undefined {
  for (const line of lines.toReversed()) {
    const about = orElse(undefined, () => JSON.parse(line()) as Line)
    if (about) return about
  }
  return undefined
}
