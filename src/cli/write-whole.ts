import { randomBytes } from 'node:crypto'
import {
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  openSync,
  readlinkSync,
  renameSync,
  rmSync,
  type Stats,
  statfsSync,
  writeFileSync,
} from 'node:fs'
import { isAbsolute } from 'node:path'
import { O_PATH } from '../abi/fcntl.ts'
import { PROC_SUPER_MAGIC, S_ISVTX, S_IWGRP, S_IWOTH } from '../abi/stat.ts'
import { owners } from '../doctor/own-files.ts'
import { orElse } from '../kernel/error.ts'
import { Fd, type Handle } from '../kernel/fd.ts'

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants
/** Signals at which a user ends a command. */
const INTERRUPTS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** As many links as the kernel follows in one path. */
const MAX_LINKS = 40

/**
 * Writes a file so that it has the old text or the new one at any time, also if there is no room or the machine stops:
 * beside it and then renamed over it. It keeps its mode and owner. A pipe or a device is written to as it is. No user
 * but root and the caller can choose where it is written, and none owns it then.
 *
 * @throws {Error} of node:fs, or without `code` because of another user; the file is then as it was
 */
export function writeWhole(path: string, text: string): void {
  withPlace(path, 'follow', (place) => {
    const there = place.look()
    if (there?.isFile() === false) writeThrough(place, text, there)
    else uninterrupted(() => replace(place, text, there))
  })
}

/**
 * Writes a new file that only its owner may read. No symbolic link is followed at its end, and there is none of it if
 * that fails.
 *
 * @throws {Error} as `writeWhole`; also if there is anything of this name
 */
export function writeNew(path: string, bytes: Uint8Array): void {
  withPlace(path, 'stop', (place) => uninterrupted(() => create(place, place.name, bytes, 0o600)))
}

/** A directory, open, and a name in it. Both stay what they are if somebody exchanges directories on the way. */
class Place {
  readonly name: string
  readonly #directory: Handle

  constructor(directory: Handle, name: string) {
    this.#directory = directory
    this.name = name
  }

  at(name = this.name): string {
    return `/proc/self/fd/${this.#directory.raw}/${name}`
  }

  look(): Stats | undefined {
    return lstatSync(this.at(), { throwIfNoEntry: false })
  }
}

/** Lets `act` work in the place to which a path leads. @param last whether a link at the end is followed too */
function withPlace(path: string, last: 'follow' | 'stop', act: (place: Place) => void): void {
  using walk = new Walk(path)
  try {
    act(walk.place(last))
  } catch (error) {
    const { message } = error as Error
    if (error instanceof Error) error.message = message.replaceAll(/'\/proc\/self\/fd\/\d+\/[^']*'/g, `'${path}'`)
    throw error
  }
}

/**
 * Walks a path as the kernel does, with a descriptor of each directory. A link is followed only if no other user can
 * have put it there: whoever can exchange a link and a directory would choose where root writes
 * (fs/namei.c may_follow_link() bars that in sticky directories only, and only if fs.protected_symlinks is set).
 */
class Walk implements Disposable {
  readonly #path: string
  readonly #left: string[] = []
  readonly #owners = owners()
  #directory: Fd
  #links = 0

  constructor(path: string) {
    this.#path = path
    this.#directory = new Fd(openSync(isAbsolute(path) ? '/' : '.', O_PATH | O_DIRECTORY))
    this.#add(path)
  }

  [Symbol.dispose](): void {
    this.#directory[Symbol.dispose]()
  }

  place(last: 'follow' | 'stop'): Place {
    for (;;) {
      const place = new Place(this.#directory, this.#left.pop() ?? '.')
      const isLast = this.#left.length === 0
      if (isLast && last === 'stop') return place
      const there = place.look()
      if (there?.isSymbolicLink()) {
        // The kernel alone knows where a link of procfs leads, such as /dev/stdout.
        if (!this.#follow(place, there)) {
          if (isLast) return place
          this.#enter(place.at(), 0)
        }
      } else if (isLast) return place
      else this.#enter(place.at(), O_NOFOLLOW)
    }
  }

  #add(path: string): void {
    // A slash at the end asks for a directory, which cannot be written.
    const names = `${path}${path.endsWith('/') ? '.' : ''}`.split('/').filter((name) => name !== '')
    this.#left.push(...names.reverse())
  }

  #enter(path: string, flags: number): void {
    using _before = this.#directory
    this.#directory = new Fd(openSync(path, O_PATH | O_DIRECTORY | flags))
  }

  /** @returns false if the kernel has to follow the link */
  #follow(link: Place, { uid }: Stats): boolean {
    this.#requireOurs(link.name, uid)
    if (++this.#links > MAX_LINKS) throw new Error(`"${this.#path}" leads over too many links; name another file`)
    if (statfsSync(link.at('.')).type === PROC_SUPER_MAGIC) return false
    const target = readlinkSync(link.at())
    if (isAbsolute(target)) this.#enter('/', 0)
    this.#add(target)
    return true
  }

  #requireOurs(name: string, uid: number): void {
    const directory = fstatSync(this.#directory.raw)
    const isOpen = (directory.mode & S_ISVTX) === 0 && (directory.mode & (S_IWGRP | S_IWOTH)) !== 0
    if (this.#owners.has(uid) && this.#owners.has(directory.uid) && !isOpen) return
    const whose = this.#owners.has(uid) ? 'is in a directory of other users' : `belongs to user ${uid}`
    throw new Error(
      `the link "${name}" in "${this.#path}" ${whose}, who can change where it leads; name a path without that link`,
    )
  }
}

/** Writes to a pipe or a device. Without O_CREAT and O_TRUNC a file that somebody puts there now stays as it is. */
function writeThrough(place: Place, text: string, there: Stats): void {
  if (there.isSymbolicLink()) {
    writeFileSync(place.at(), text)
    return
  }
  using file = new Fd(openSync(place.at(), O_WRONLY | O_NOFOLLOW))
  if (fstatSync(file.raw).isFile()) throw new Error('it was replaced by a file just now; try again')
  writeFileSync(file.raw, text)
}

function replace(place: Place, text: string, before: Stats | undefined): void {
  if (before && before.uid !== 0 && before.uid !== process.geteuid?.())
    throw new Error(
      `"${place.name}" belongs to user ${before.uid}, who could change it afterwards; remove it first, or name another file`,
    )
  const beside = `.intercede-${randomBytes(8).toString('hex')}`
  create(place, beside, text, before ? 0o600 : 0o666, (file) => {
    if (before) keepOwner(file, before)
  })
  try {
    renameSync(place.at(beside), place.at())
  } catch (error) {
    rmSync(place.at(beside), { force: true })
    throw error
  }
  syncDirectory(place)
}

/** Writes a new file to the disk, or leaves none of it. @param adjust called before it is on the disk */
function create(
  place: Place,
  name: string,
  bytes: string | Uint8Array,
  mode: number,
  adjust?: (file: number) => void,
): void {
  using file = new Fd(openSync(place.at(name), O_WRONLY | O_CREAT | O_EXCL, mode))
  try {
    writeFileSync(file.raw, bytes)
    adjust?.(file.raw)
    fsyncSync(file.raw)
  } catch (error) {
    rmSync(place.at(name), { force: true })
    throw error
  }
}

function keepOwner(file: number, { uid, gid, mode }: Stats): void {
  // Only root may give a file away; for others it becomes their own.
  if (process.geteuid?.() === 0) fchownSync(file, uid, gid)
  fchmodSync(file, mode & 0o777)
}

/** Without it the machine may stop and come back with the old file. Not every file system can do it. */
function syncDirectory(place: Place): void {
  using directory = new Fd(openSync(place.at('.'), O_RDONLY | O_DIRECTORY))
  // If that fails, the file is whole all the same.
  orElse(undefined, () => fsyncSync(directory.raw))
}

/** Lets a signal end us only after `act`, which takes moments and would leave a file beside the file. */
function uninterrupted(act: () => void): void {
  // Node runs a handler when it is back in its loop, so nothing may take the handlers away before.
  for (const name of INTERRUPTS) if (!process.listeners(name).includes(end)) process.on(name, end)
  act()
}

function end(signal: NodeJS.Signals): void {
  for (const name of INTERRUPTS) process.off(name, end)
  process.kill(process.pid, signal)
}
