import { spawnSync } from 'node:child_process'
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

const initOf = ({ init }: Line): number => (typeof init === 'number' ? init : 0)

/** Returns the lines whose containers still have their init. If nobody could look, it counts who has its number. */
export function stillThere(lines: readonly Line[]): readonly Line[] {
  const starts = startTimes(lines.map(initOf))
  return lines.filter((line) => {
    const pid = initOf(line)
    if (!starts.has(pid)) return pid > 0 && existsSync(`/proc/${pid}`)
    return (1000 * (starts.get(pid) ?? Number.NaN)) / ticksPerSecond() === line.started
  })
}

/** Returns, by number, the last lines of containers that still run, though nobody has seen them end. */
export function runningIn(directory: string): ReadonlyMap<number, Line> {
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
  const last: readonly Line[] = [...all.values()].map(lastWhole).filter((line) => line !== undefined)
  return new Map(stillThere(last).map((line) => [Number(line.serial), line]))
}

/** A line that a crash has cut off hides no earlier one. */
function lastWhole(lines: readonly (() => string)[]): Line | undefined {
  for (const line of lines.toReversed()) {
    const about = orElse(undefined, () => JSON.parse(line()) as Line)
    if (about) return about
  }
  return undefined
}
