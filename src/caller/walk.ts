import { errno } from '../abi/errno.ts'
import { fileType, S_IFDIR, S_IFLNK } from '../abi/stat.ts'
import { SyscallError } from '../kernel/error.ts'
import { dup, type Fd } from '../kernel/fd.ts'
import {
  fileSystemType,
  type Identity,
  identify,
  O_NOFOLLOW,
  O_PATH,
  openat,
  openat2,
  PROC_SUPER_MAGIC,
  RESOLVE_NO_XDEV,
  readlink,
} from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import type { Goal, Start } from './lookup.ts'

/** Links that one path may follow, as in the kernel (MAXSYMLINKS). */
const LINKS = 40
const PROC_ROOT_INO = 1n
const NUMBER = /^[1-9]\d*$/
const OWN_DIRECTORY = /^(task\/[1-9]\d*\/)?fd$|^task(\/[1-9]\d*)?$/
const OWN_LINK = /^(task\/[1-9]\d*\/)?(cwd|root|fd\/(0|[1-9]\d*))$/
const SLASH = 0x2f

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
const terminated = (name: string): Uint8Array => Buffer.from(`${name}\0`, 'latin1')

/**
 * Where a walk stands: in a directory, or in the caller's own directory of procfs, `/proc/self`, which is entered through
 * the caller's handle and never through the name, since the looking thread has another `self`. `own` is the place below it:
 * empty, `fd`, `task`, `task/TID` or `task/TID/fd`. `other`: below the directory of another process, which is not ours.
 */
type Place = { readonly dir: Fd; readonly own?: string; readonly other?: boolean }

/**
 * Resolves a path that crosses procfs, component by component, as the caller. `self` and `thread-self` are the caller's;
 * its links `cwd`, `root` and `fd/N` open through its handle. The links of another process are followed only in a procfs
 * in which the looking process does not exist: there no number can be ours.
 *
 * @throws {SyscallError} what the kernel would say; ELOOP also for what is not followed
 */
export function walk(start: Start, goal: Goal): Fd {
  return new Walk(start).resolve(goal)
}

/** Does `name` exist in `dir`, which must be a directory that no container can mount on? */
function exists(dir: Handle, name: string): boolean {
  try {
    openat(dir.raw, terminated(name), O_PATH)[Symbol.dispose]()
    return true
  } catch (error) {
    if (error instanceof SyscallError && error.errno === errno('ENOENT')) return false
    throw error
  }
}

/** Opens what the file system itself has under `name`, not what a container may have mounted on it. */
const openOwn = (dir: Handle, name: string): Fd =>
  openat2(dir.raw, terminated(name), O_PATH | O_NOFOLLOW, RESOLVE_NO_XDEV)

const isSame = (one: Identity, other: Identity): boolean => one.dev === other.dev && one.ino === other.ino

/**
 * Is our process unknown to the procfs with this root? Then its `self` has no target for us. It must be the entry itself: a
 * container could mount a link of its own on it.
 */
function isStranger(root: Handle): boolean {
  using self = openOwn(root, 'self')
  try {
    readlink(self)
    return false
  } catch (error) {
    return error instanceof SyscallError && error.errno === errno('ENOENT')
  }
}

class Walk {
  readonly #start: Start
  #place: Place
  #links = 0

  constructor(start: Start) {
    this.#start = start
    this.#place = { dir: dup(start.base) }
  }

  resolve({ path, wanted }: Goal): Fd {
    try {
      this.#follow(text(path.subarray(0, -1)), wanted === 'link')
      // Nothing can be made in procfs; the kernel says so.
      if (this.#place.own !== undefined) throw new SyscallError('walk', errno('ELOOP'))
      if (wanted === 'directory') this.#mustBeDirectory()
      return this.#place.dir
    } catch (error) {
      this.#place.dir[Symbol.dispose]()
      throw error
    }
  }

  /** @param keepLink stops at a symbolic link that is the very last of the path */
  #follow(path: string, keepLink = false): void {
    if (path.charCodeAt(0) === SLASH) this.#go(dup(this.#start.root()))
    const names = path.split('/')
    const last = names.at(-1)!
    names.forEach((name, index) => {
      if (name !== '' && name !== '.') this.#step(name, keepLink && index === names.length - 1)
    })
    // Also where a link in the middle of a path leads to "file/".
    if (last === '' || last === '.') this.#mustBeDirectory()
  }

  #mustBeDirectory(): void {
    const { dir, own } = this.#place
    if (own === undefined && fileType(identify(dir.raw).mode) !== S_IFDIR)
      throw new SyscallError('walk', errno('ENOTDIR'))
  }

  #step(name: string, keepLink: boolean): void {
    const { dir, own } = this.#place
    // A link of procfs itself has nothing that could be changed; the kernel says so.
    if (keepLink && fileSystemType(dir) === PROC_SUPER_MAGIC) throw new SyscallError('walk', errno('ELOOP'))
    if (own !== undefined) {
      this.#stepOwn(own, name)
      return
    }
    if (fileSystemType(dir) === PROC_SUPER_MAGIC && name !== '..') {
      this.#stepProc(dir, name)
      return
    }
    const next = openat(dir.raw, terminated(name), O_PATH | O_NOFOLLOW)
    if (fileType(identify(next.raw).mode) === S_IFLNK && !keepLink) this.#followLink(next)
    else this.#go(next)
  }

  /** In procfs: its root knows `self`; below it are links that lead to objects. */
  #stepProc(dir: Fd, name: string): void {
    const inRoot = identify(dir.raw).ino === PROC_ROOT_INO
    if (inRoot && (name === 'self' || name === 'thread-self')) {
      this.#count()
      const [, tgid] = this.#start.numbers
      this.#place = { dir, own: name === 'self' ? `task/${tgid}` : '' }
    } else if (inRoot && NUMBER.test(name)) this.#stepNumber(dir, name)
    else this.#stepEntry(dir, name, inRoot)
  }

  /**
   * A number is followed where it cannot be ours: in a procfs that does not know us, and in the one that we know, where the
   * caller's own is its `self`. It must be the entry itself: a container may mount our directory on another number.
   */
  #stepNumber(dir: Fd, name: string): void {
    const { numbers, proc } = this.#start
    const known = isSame(identify(dir.raw), identify(proc.raw))
    if (known && numbers.includes(Number(name))) {
      this.#place = { dir, own: `task/${name}` }
      return
    }
    if (known ? exists(proc, `self/task/${name}`) : !isStranger(dir)) throw new SyscallError('walk', errno('ELOOP'))
    this.#go(openOwn(dir, name))
    this.#place = { ...this.#place, other: true }
  }

  #stepEntry(dir: Fd, name: string, inRoot: boolean): void {
    const { other } = this.#place
    const next = other ? openOwn(dir, name) : openat(dir.raw, terminated(name), O_PATH | O_NOFOLLOW)
    if (fileType(identify(next.raw).mode) !== S_IFLNK) {
      this.#go(next)
      // Below another process's directory, still its own entries only.
      if (other) this.#place = { ...this.#place, other }
      return
    }
    if (inRoot) {
      this.#followLink(next)
      return
    }
    next[Symbol.dispose]()
    if (!other) throw new SyscallError('walk', errno('ELOOP'))
    this.#count()
    this.#go(openat(dir.raw, terminated(name), O_PATH))
  }

  /** Below `/proc/self` of the caller: what leads out of procfs is opened through the caller's own handle. */
  #stepOwn(own: string, name: string): void {
    const { dir } = this.#place
    // What is below `task` of a thread is what is below `task` of its process.
    const below = `${own}/${name}`.replace(/^\//, '').replace(/^task\/\d+\/task$/, 'task')
    if (OWN_DIRECTORY.test(below)) this.#place = { dir, own: below }
    else if (OWN_LINK.test(below)) this.#object(below)
    else throw new SyscallError('walk', errno('ELOOP'))
  }

  #object(name: string): void {
    this.#count()
    this.#go(openat(this.#start.task().raw, terminated(name), O_PATH))
  }

  #followLink(link: Fd): void {
    using owned = link
    this.#count()
    const target = text(readlink(owned))
    if (target === '') throw new SyscallError('walk', errno('ENOENT'))
    this.#follow(target)
  }

  #count(): void {
    if (++this.#links > LINKS) throw new SyscallError('walk', errno('ELOOP'))
  }

  #go(dir: Fd): void {
    if (dir.raw === this.#place.dir.raw) return
    this.#place.dir[Symbol.dispose]()
    this.#place = { dir }
  }
}
