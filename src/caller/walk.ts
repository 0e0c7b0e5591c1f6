import { errno } from '../abi/errno.ts'
import { fileType, S_IFDIR, S_IFLNK } from '../abi/stat.ts'
import { SyscallError } from '../kernel/error.ts'
import { dup, type Fd, guarded } from '../kernel/fd.ts'
import { fileSystemType, identify, O_NOFOLLOW, O_PATH, openat, PROC_SUPER_MAGIC, readlink } from '../kernel/files.ts'
import type { Goal, Start } from './lookup.ts'
import { isRoot, Procfs, type TaskDirectory } from './procfs.ts'
import { notFollowed, openOwn, terminated } from './procfs-entry.ts'

/** Links that one path may follow, as in the kernel (MAXSYMLINKS). */
const LINKS = 40
/** Each takes some system calls of ours: forty links of a page each would take a second. */
const STEPS = 1000
const NUMBER = /^[1-9]\d*$/
const SLASH = 0x2f

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
const inProcfs = (object: Fd): boolean => fileSystemType(object) === PROC_SUPER_MAGIC
const isLink = (object: Fd): boolean => guarded(object, () => fileType(identify(object.raw).mode) === S_IFLNK)

/** Where a walk stands: at an object that the caller reaches, or in a directory of a task in procfs. */
type Place = { readonly dir: Fd } | TaskDirectory

function close(place: Place): void {
  place.dir[Symbol.dispose]()
  if ('seen' in place) place.seen[Symbol.dispose]()
}

/**
 * Resolves a path that crosses procfs, component by component, as the caller. `self` and `thread-self` are the caller's. The
 * links of a process, which lead to an object instead of a name, are never followed in a procfs that the container sees: it
 * can mount the link of any process there on any other, between a look at it and its use. They are followed in our own, if the
 * process is the caller, or for the walker one of its container.
 *
 * @throws {SyscallError} what the kernel would say; ELOOP also for what is not followed, EACCES for what only the walker follows
 */
export function walk(start: Start, goal: Goal): Fd {
  return new Walk(start).resolve(goal)
}

class Walk {
  readonly #start: Start
  readonly #procfs: Procfs
  #place: Place
  #links = 0
  #steps = 0

  constructor(start: Start) {
    this.#start = start
    this.#procfs = new Procfs(start)
    this.#place = { dir: dup(start.base) }
  }

  resolve({ path, wanted }: Goal): Fd {
    try {
      this.#follow(text(path.subarray(0, -1)), wanted === 'link')
      // Nothing can be made in procfs; the kernel says so.
      if ('own' in this.#place) throw notFollowed()
      if (wanted === 'directory') this.#mustBeDirectory()
      return this.#place.dir
    } catch (error) {
      close(this.#place)
      throw error
    }
  }

  /** @param keepLink stops at a symbolic link that is the very last of the path */
  #follow(path: string, keepLink = false): void {
    if (path.charCodeAt(0) === SLASH) this.#go({ dir: dup(this.#start.root()) })
    const names = path.split('/')
    const last = names.at(-1)!
    names.forEach((name, index) => {
      if (name !== '' && name !== '.') this.#step(name, keepLink && index === names.length - 1)
    })
    // Also where a link in the middle of a path leads to "file/".
    if (last === '' || last === '.') this.#mustBeDirectory()
  }

  #mustBeDirectory(): void {
    if (fileType(identify(this.#place.dir.raw).mode) !== S_IFDIR) throw new SyscallError('walk', errno('ENOTDIR'))
  }

  #step(name: string, keepLink: boolean): void {
    if (++this.#steps > STEPS) throw notFollowed()
    const place = this.#place
    const { dir } = place
    const within = inProcfs(dir)
    // A link of procfs itself has nothing that could be changed; the kernel says so.
    if (keepLink && within) throw notFollowed()
    if ('own' in place) this.#stepTask(place, name)
    else if (within && name !== '..') this.#stepProc(dir, name)
    else this.#stepPlain(dir, name, keepLink)
  }

  #stepPlain(dir: Fd, name: string, keepLink: boolean): void {
    const next = openat(dir.raw, terminated(name), O_PATH | O_NOFOLLOW)
    if (!isLink(next) || keepLink) this.#go({ dir: next })
    else this.#followLink(next)
  }

  /** In procfs: its root knows `self`; below it are links that lead to objects. */
  #stepProc(dir: Fd, name: string): void {
    const inRoot = isRoot(dir)
    if (inRoot && (name === 'self' || name === 'thread-self')) {
      this.#count()
      this.#go(this.#procfs.self(dir, name))
    } else if (inRoot && NUMBER.test(name)) this.#go(this.#procfs.task(dir, name))
    else {
      const task = inRoot ? undefined : this.#procfs.recognize(dir)
      if (task) {
        this.#go(task)
        this.#stepTask(task, name)
      } else this.#stepEntry(dir, name, inRoot)
    }
  }

  /** @param inRoot there the links are names, as long as they are the entries themselves */
  #stepEntry(dir: Fd, name: string, inRoot: boolean): void {
    const next = openat(dir.raw, terminated(name), O_PATH | O_NOFOLLOW)
    if (!isLink(next)) this.#go({ dir: next })
    else {
      next[Symbol.dispose]()
      if (!inRoot) throw notFollowed()
      this.#followLink(openOwn(dir, name), true)
    }
  }

  #stepTask(place: TaskDirectory, name: string): void {
    const next = this.#procfs.enter(place, name)
    if ('object' in next) {
      guarded(next.object, () => this.#count())
      this.#go({ dir: next.object })
    } else this.#go(next)
  }

  /** @param inRoot it is one of procfs that is a name; any other is mounted here, and its text is not where it leads */
  #followLink(link: Fd, inRoot = false): void {
    using owned = link
    if (!inRoot && inProcfs(owned)) throw notFollowed()
    this.#count()
    const target = text(readlink(owned))
    if (target === '') throw new SyscallError('walk', errno('ENOENT'))
    this.#follow(target)
  }

  #count(): void {
    if (++this.#links > LINKS) throw notFollowed()
  }

  #go(place: Place): void {
    close(this.#place)
    this.#place = place
  }
}
