import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncate,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  write,
  writeSync,
} from 'node:fs'
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from '../../abi/fcntl.ts'
import { firstThere, openDirectories } from '../../doctor/own-files.ts'
import { orElse } from '../../kernel/error.ts'
import { type Fd, lockFile, orClose } from '../../kernel/fd.ts'
import { openat } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { findStillThere, type Line, unendedIn } from '../../processes/history-lines.ts'
import { HISTORY_FILES } from '../../processes/installation.ts'
import { makeDirectory } from '../../runtimes/text-file.ts'
import { asciiJson, firstFitting } from '../../shared/texts.ts'
import type { HistoryOptions } from '../process/events.ts'

const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDWR } = constants
/** The group reads it, and nobody else. */
const MODE = 0o640
/** In bytes: what waits while the disk is slow, but no more than a part of the size. More is lost, and counted. */
const WAITING = 4 * 1024 * 1024
/** The part of the rest of that which a line may have, where many want to be written at once. */
const SHARES = 32
const LINE_FEED = 0x0a
/** How often to look for what is too old, and whether the files are where they were. */
const LOOK_MS = { old: 60_000, place: 5000 }
/** How often to try again to write what is known of the containers, where lines were lost. */
const AGAIN_MS = 5000
/** The part of the size that a new file may begin with; what waits is added to that. */
const SNAPSHOT = 4
/** The longest beginning of a line with its time. */
const HEAD = 64
/** What the line of a container has of its number. */
const SERIAL = /"serial":\d+,/

interface Surroundings {
  /** The group that may read it. */
  readonly group: number | undefined
  /** Returns what a new file begins with: what is known of the containers that run. */
  snapshot(): readonly object[]
  /** Takes the reason why lines were lost, once until lines are written again. */
  failed(why: string): void
}

/** Returns the time of the line that begins there; 0 if it has none. */
const timeOf = (text: Buffer, start: number): number =>
  Date.parse(/^\{"time":"([^"]*)"/.exec(text.toString('latin1', start, start + HEAD))?.[1] ?? '') || 0

/** Returns the time of the first line of an open file; 0 if it has none. */
function firstTime(file: number): number {
  const head = Buffer.alloc(HEAD)
  readSync(file, head, 0, HEAD, 0)
  return timeOf(head, 0)
}

/** Tells whether an open file or directory is still at its path. */
const isAt = (path: string, fd: number): boolean =>
  orElse(false, () => {
    const [there, own] = [statSync(path), fstatSync(fd)]
    return there.ino === own.ino && there.dev === own.dev
  })

export const lineOf = (about: object): string => `${asciiJson(about)}\n`
const lengthOf = (line: string): number => line.length

/** Returns a line once more, as of now, which is no news of the container: `counted` says what time it tells of. */
const carried = ({ time, type, serial, counted = time, ...rest }: Line): string =>
  lineOf({ time: new Date(), type, serial, counted, ...rest })

function withoutRefusals({ refusals, droppedRefusals, ...rest }: Line): Line {
  const count = (Array.isArray(refusals) ? refusals.length : 0) + Number(droppedRefusals ?? 0)
  return { ...rest, refusals: [], ...(count > 0 ? { droppedRefusals: count } : {}) }
}

/** Returns why no history can be kept in a directory, which need not be there yet, as far as its path tells. */
export function flawOfDirectory(directory: string): string | undefined {
  const wrong = openDirectories([directory])
  if (wrong !== undefined) return `others could put something else there: ${wrong}`
  const there = firstThere(directory)
  return statSync(there).isDirectory() ? undefined : `"${there}" is no directory; name another one with history.path`
}

/** @throws {Error} if another user could exchange what is there, or what will be there */
function requireUsable(directory: string): void {
  const wrong = flawOfDirectory(directory)
  if (wrong !== undefined) throw new Error(wrong)
}

/** Makes a directory that the group may enter, whatever mask the service has. */
export function makePlace(directory: string): void {
  const mask = process.umask(0o022)
  try {
    makeDirectory(directory)
  } finally {
    process.umask(mask)
  }
}

/**
 * Appends lines to a file. When the file has half of the size, or is half as old as history may become, it takes the
 * place of the file before it, and a new one begins. So both together are neither larger nor older. The lines of
 * containers that outlived an earlier daemon stay, since nobody writes them again.
 *
 * Invariant: one write is in flight at most, in another thread, since the disk may hang; nothing waits for it.
 */
export class HistoryFile {
  options: HistoryOptions
  readonly #around: Surroundings
  readonly #directory: Fd
  #file: number
  /** In bytes. */
  #size = 0
  /** The time of its first line. */
  #begun = 0
  #waiting = ''
  #isWriting = false
  #isClosed = false
  /** Whether the file may end within a line. */
  #isTorn = false
  /** How many lines could not be written, until that is written. */
  lost = 0
  /** Whether the directory is not at its path any more, as of the last look. */
  isMoved = false
  readonly #settled: (() => void)[] = []
  #lookAt = 0
  #placeAt = 0
  /** When to write again what is known, of which the lost lines may have had a part; undefined if none were lost. */
  #knownAt: number | undefined
  /** The last lines of containers that outlived an earlier daemon, by number. Some may just be found to have ended. */
  readonly outlived: Map<number, Line>

  /**
   * @param earlier those that were in another directory
   * @throws {Error} if no history can be kept there
   */
  constructor(options: HistoryOptions, around: Surroundings, earlier: ReadonlyMap<number, Line> = new Map()) {
    this.options = options
    this.#around = around
    const { directory } = options
    requireUsable(directory)
    makePlace(directory)
    requireUsable(directory)
    const fd = openat(AT_FDCWD, cstring(directory), O_RDONLY | O_DIRECTORY)
    this.#directory = fd
    this.#file = orClose([fd], () => {
      if (!lockFile(fd)) throw new Error('another daemon keeps its history there; give each a directory of its own')
      return this.#open()
    })
    const here = orElse(new Map<number, Line>(), () => unendedIn(this.#at('')))
    this.outlived = new Map([...earlier, ...here])
    findStillThere([...this.outlived.values()], (lines) => {
      const there = new Set(lines)
      for (const [serial, line] of this.outlived) if (!there.has(line)) this.outlived.delete(serial)
    })
    const moved = [...earlier].flatMap(([serial, line]) => (here.has(serial) ? [] : [line]))
    this.#waiting = this.#carried(moved).join('')
    if (moved.length > 0) this.#write()
  }

  /** How many bytes may wait to be written. */
  get #most(): number {
    return Math.min(WAITING, this.options.size / SNAPSHOT)
  }

  /** How many more bytes may wait. */
  get room(): number {
    return this.#most - this.#waiting.length
  }

  /** How long a line may be: once half of the room is taken, a part of the rest, so that many others have room, too. */
  roomFor(most: number): number {
    return this.room > this.#most / 2 ? most : Math.min(most, Math.floor(this.room / SHARES))
  }

  /** Adds a line, which is written soon. */
  add(about: object): void {
    if ('serial' in about) this.outlived.delete(Number(about.serial))
    const line = lineOf(about)
    if (line.length > this.room) this.#fail('the disk does not answer', 1)
    else this.#waiting += line
    this.#write()
  }

  /** Writes what could not be written before, and removes what has become too old. To be called once a second. */
  look(): void {
    this.#write()
    if (this.#isWriting) return
    if (Date.now() >= this.#placeAt) this.#lookAtPlace()
    if (Date.now() < this.#lookAt) return
    this.#lookAt = Date.now() + LOOK_MS.old
    orElse(undefined, () => this.#trim())
  }

  #lookAtPlace(): void {
    this.#placeAt = Date.now() + LOOK_MS.place
    this.isMoved = !isAt(this.options.directory, this.#directory.raw)
    // Somebody has taken the file away: what is known goes into another one.
    if (!isAt(this.#at(HISTORY_FILES.now), this.#file)) orElse(undefined, () => this.#turn())
  }

  /** Changes the limits. What is beyond lower ones goes with the next look. */
  limit(options: HistoryOptions): void {
    this.options = options
    this.#lookAt = 0
    this.#placeAt = 0
  }

  /**
   * Takes from the file before this one what is too old, and what is too much since the limits were lowered. Lines may
   * become a tenth older than that, so that not every look writes it again.
   */
  #trim(): void {
    const path = this.#at(HISTORY_FILES.before)
    const { size, age } = this.options
    const oldest = Date.now() - age
    const file = openSync(path, O_NOFOLLOW | O_NONBLOCK)
    try {
      const about = fstatSync(file)
      const isOver = about.mtimeMs < oldest
      const isLarge = about.size > size / 2
      if (!isOver && !isLarge && firstTime(file) >= oldest - age / 10) return
      // A disk may be too full for a copy of what is kept.
      const isDone = orElse(false, () => this.#keepFrom(path, isOver ? Number.POSITIVE_INFINITY : oldest))
      if (!isDone && (isOver || isLarge)) rmSync(path)
    } finally {
      closeSync(file)
    }
  }

  /**
   * Keeps the lines of a file since a time, as many as fit, and those of containers that outlived their daemon.
   *
   * @returns whether that was possible
   */
  #keepFrom(path: string, oldest: number): boolean {
    const text = readFileSync(path)
    const nextLine = (from: number): number => text.indexOf(LINE_FEED, from) + 1 || text.length
    const outlived = this.#carried()
    const room = Math.floor(this.options.size / 2) - outlived.join('').length
    let start = text.length - room
    start = start > 0 ? nextLine(start - 1) : 0
    while (start < text.length && timeOf(text, start) < oldest) start = nextLine(start)
    const isCut = (line: string): boolean => text.indexOf(SERIAL.exec(line)![0], start) < 0
    const kept = Buffer.concat([text.subarray(start), Buffer.from(outlived.filter(isCut).join(''), 'latin1')])
    if (kept.length === 0) {
      rmSync(path)
      return true
    }
    const rest = `${path}.rest`
    rmSync(rest, { force: true })
    const file = openSync(rest, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, MODE)
    try {
      this.#secure(file)
      const isWhole = writeSync(file, kept) === kept.length
      if (isWhole) renameSync(rest, path)
      return isWhole
    } finally {
      closeSync(file)
      rmSync(rest, { force: true })
    }
  }

  /** Lets the group read a file, and nobody else. */
  #secure(file: number): void {
    fchmodSync(file, MODE)
    const { group } = this.#around
    // A user namespace without that group: only its root reads.
    if (group !== undefined) orElse(undefined, () => fchownSync(file, fstatSync(file).uid, group))
  }

  /** Resolves once nothing waits to be written. */
  settle(): Promise<void> {
    return this.#isWriting ? new Promise((resolve) => this.#settled.push(resolve)) : Promise.resolve()
  }

  /** Writes what waits and the last lines, as many as fit: at once, or if a write is in flight, when that is done. */
  close(last: readonly object[] = []): void {
    const lines = [...(this.#knownAt === undefined ? [] : this.#carried()), ...last.map(lineOf)]
    this.#waiting += firstFitting(lines, this.options.size / SNAPSHOT, lengthOf).join('')
    this.#isClosed = true
    if (!this.#isWriting) this.#end()
  }

  #end(): void {
    orElse(undefined, () => writeSync(this.#file, this.#take()))
    closeSync(this.#file)
    this.#directory[Symbol.dispose]()
  }

  #at(name: string): string {
    return `/proc/self/fd/${this.#directory.raw}/${name}`
  }

  #open(): number {
    const file = openSync(this.#at(HISTORY_FILES.now), O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, MODE)
    try {
      const about = fstatSync(file)
      if (!about.isFile() || about.nlink !== 1 || about.uid !== process.geteuid?.())
        throw new Error(`${HISTORY_FILES.now} is no file of our own; remove it`)
      this.#secure(file)
      const end = Buffer.alloc(1)
      if (about.size > 0) readSync(file, end, 0, 1, about.size - 1)
      this.#size = about.size
      this.#isTorn = about.size > 0 && end[0] !== LINE_FEED
      this.#begun = firstTime(file) || Date.now()
      return file
    } catch (error) {
      closeSync(file)
      throw error
    }
  }

  #isDue(more = 0): boolean {
    const { size, age } = this.options
    const length = this.#size + this.#waiting.length + more
    return this.#size > 0 && (length > size / 2 || Date.now() - this.#begun > age / 2)
  }

  /** Begins a new file. @throws {Error} if that is not possible now; the file must not grow then */
  #turn(): void {
    const before = this.#file
    try {
      renameSync(this.#at(HISTORY_FILES.now), this.#at(HISTORY_FILES.before))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
    this.#file = this.#open()
    closeSync(before)
    this.#waiting = this.#known() + this.#waiting
  }

  /** Returns lines of what is known of the containers that run, as many as a new file may begin with. */
  #known(): string {
    const lines = [...this.#carried(), ...this.#around.snapshot().map(lineOf)]
    return firstFitting(lines, this.options.size / SNAPSHOT, lengthOf).join('')
  }

  /** Returns lines of containers that outlived their daemon and still run, without refusals if they do not all fit. */
  #carried(which: Iterable<Line> = this.outlived.values()): readonly string[] {
    const room = this.options.size / SNAPSHOT / 2
    const lines = [...which].filter(({ init }) => existsSync(`/proc/${init}`))
    const whole = lines.map(carried)
    if (firstFitting(whole, room, lengthOf).length === whole.length) return whole
    return firstFitting(lines.map(withoutRefusals).map(carried), room, lengthOf)
  }

  /** Takes what waits, with what must be before it. */
  #take(): Buffer {
    const lost = this.lost > 0 ? lineOf({ time: new Date(), type: 'historyLost', count: this.lost }) : ''
    const text = this.#waiting === '' ? '' : `${this.#isTorn ? '\n' : ''}${lost}${this.#waiting}`
    this.#waiting = ''
    return Buffer.from(text, 'latin1')
  }

  #write(): void {
    if (this.#isWriting) return
    const isAgain = Date.now() >= (this.#knownAt ?? Number.POSITIVE_INFINITY)
    if (this.#waiting === '' && !isAgain && !this.#isDue()) return
    const lines = this.#waiting.split('\n').length - 1
    const [known, news, again] = [isAgain ? this.#known() : '', this.#waiting, this.#knownAt]
    try {
      if (this.#isDue(known.length)) this.#turn()
      else this.#waiting = known + news
    } catch (error) {
      this.#waiting = ''
      this.#fail((error as Error).message, lines)
      return
    }
    const told = this.lost
    const bytes = this.#take()
    if (bytes.length === 0) return
    this.#isWriting = true
    write(this.#file, bytes, (error, written) => {
      if (written === bytes.length) {
        this.lost -= told
        if (isAgain && this.#knownAt === again) this.#knownAt = undefined
        this.#wrote(written, false)
        return
      }
      // Without the rest there may be room for what is new.
      if (known !== '' && news.length <= this.room) {
        this.#waiting = news + this.#waiting
        this.#knownAt = Date.now() + AGAIN_MS
      } else this.#fail(error?.message ?? 'there is no room left', lines)
      // Every reader would complain of half a line.
      ftruncate(this.#file, this.#size, (cannot) => {
        const left = cannot ? written : 0
        this.#wrote(left, left > 0 || this.#isTorn)
      })
    })
  }

  #wrote(size: number, isTorn: boolean): void {
    this.#isWriting = false
    this.#size += size
    const isMore = !isTorn && size > 0
    this.#isTorn = isTorn
    if (this.#isClosed) this.#end()
    else if (isMore) this.#write()
    if (!this.#isWriting) for (const settled of this.#settled.splice(0)) settled()
  }

  /** @param lines how many were lost */
  #fail(why: string, lines: number): void {
    const { directory } = this.options
    if (this.lost === 0) this.#around.failed(`Cannot write history in "${directory}": ${why}; it continues when it can`)
    this.lost += lines
    this.#knownAt = Date.now() + AGAIN_MS
  }
}
