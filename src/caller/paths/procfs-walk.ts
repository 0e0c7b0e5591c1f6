import { errno } from '../../abi/errno.ts'
import { O_NOFOLLOW, O_PATH } from '../../abi/fcntl.ts'
import { OVERFLOW_ID } from '../../abi/id-map.ts'
import { PROC_SUPER_MAGIC } from '../../abi/magic.ts'
import { ST_NOSYMFOLLOW } from '../../abi/mount.ts'
import { fileType, S_IFDIR, S_IFLNK, S_ISVTX, S_IWOTH } from '../../abi/stat.ts'
import { SyscallError } from '../../kernel/error.ts'
import { dup, type Fd, guarded } from '../../kernel/fd.ts'
import { fileSystemType, fstatfs, type Identity, openat, readlink, statx } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { LookupKind, LookupRequest, LookupStart } from './lookup-types.ts'
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
const isLink = ({ mode }: Identity): boolean => fileType(mode) === S_IFLNK
/** A directory in which everybody may make links, and nobody may remove those of others. */
const isForAll = ({ mode }: Identity): boolean => (mode & (S_ISVTX | S_IWOTH)) === (S_ISVTX | S_IWOTH)

/**
 * What becomes of a symbolic link: it is followed as in the middle of a path, or as the last component of all, where the
 * kernel looks at who has made it (WALK_TRAILING), or it is what is looked for.
 */
type Links = 'inner' | 'trailing' | 'kept'

/** A parent is never the last component (LOOKUP_PARENT). What crosses procfs is not walked for `outsideProc`. */
const AT_END: Readonly<Record<LookupKind, Links>> = {
  directory: 'inner',
  object: 'trailing',
  link: 'kept',
  outsideProc: 'trailing',
}

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
 * No link is followed that the kernel would not follow (linux/fs/namei.c pick_link()), whether fs.protected_symlinks is set
 * or not: without it the kernel has followed all that do not lead into procfs.
 *
 * @throws {SyscallError} what the kernel would say; ELOOP also for what is not followed, EACCES for what only the walker follows
 */
export function walk(start: LookupStart, goal: LookupRequest): Fd {
  return new Walk(start).resolve(goal)
}

class Walk {
  readonly #start: LookupStart
  readonly #procfs: Procfs
  #place: Place
  #links = 0
  #steps = 0

  constructor(start: LookupStart) {
    this.#start = start
    this.#procfs = new Procfs(start)
    this.#place = { dir: dup(start.base) }
  }

  resolve({ path, wanted }: LookupRequest): Fd {
    try {
      this.#follow(text(path.subarray(0, -1)), AT_END[wanted])
      // Nothing can be made in procfs; the kernel says so.
      if ('own' in this.#place) throw notFollowed()
      if (wanted === 'directory') this.#mustBeDirectory()
      return this.#place.dir
    } catch (error) {
      close(this.#place)
      throw error
    }
  }

  /** @param atEnd of a link that is the last component: one before a slash is followed in any case */
  #follow(path: string, atEnd: Links): void {
    if (path.charCodeAt(0) === SLASH) this.#go({ dir: dup(this.#start.root()) })
    const names = path.split('/')
    const last = names.at(-1)!
    const end = names.findLastIndex((name) => name !== '')
    const links = last === '' && atEnd === 'kept' ? 'trailing' : atEnd
    names.forEach((name, index) => {
      if (name !== '' && name !== '.') this.#step(name, index === end ? links : 'inner')
    })
    // Also where a link in the middle of a path leads to "file/".
    if (last === '' || last === '.') this.#mustBeDirectory()
  }

  #mustBeDirectory(): void {
    if (fileType(statx(this.#place.dir.raw).mode) !== S_IFDIR) throw new SyscallError('walk', errno('ENOTDIR'))
  }

  #step(name: string, links: Links): void {
    if (++this.#steps > STEPS) throw notFollowed()
    const place = this.#place
    const { dir } = place
    const within = inProcfs(dir)
    // A link of procfs itself has nothing that could be changed; the kernel says so.
    if (links === 'kept' && within) throw notFollowed()
    if ('own' in place) this.#stepTask(place, name)
    else if (within && name !== '..') this.#stepProc(dir, name, links)
    else this.#stepPlain(dir, name, links)
  }

  #stepPlain(dir: Fd, name: string, links: Links): void {
    const next = openat(dir.raw, terminated(name), O_PATH | O_NOFOLLOW)
    const found = guarded(next, () => statx(next.raw))
    if (!isLink(found) || links === 'kept') this.#go({ dir: next })
    else {
      if (links === 'trailing') guarded(next, () => this.#mustBeTrusted(found, dir))
      this.#followLink(next, links)
    }
  }

  /** @see linux/fs/namei.c may_follow_link(); an owner that we cannot tell from others is nobody's */
  #mustBeTrusted({ uid }: Identity, dir: Handle): void {
    const parent = statx(dir.raw)
    const isOwners = uid !== OVERFLOW_ID && (uid === this.#start.fsuid || uid === parent.uid)
    if (!isOwners && isForAll(parent)) throw new SyscallError('walk', errno('EACCES'))
  }

  /** In procfs: its root knows `self`; below it are links that lead to objects. */
  #stepProc(dir: Fd, name: string, links: Links): void {
    const inRoot = isRoot(dir)
    if (inRoot && (name === 'self' || name === 'thread-self')) {
      this.#mayFollow(dir)
      this.#go(this.#procfs.self(dir, name))
    } else if (inRoot && NUMBER.test(name)) this.#go(this.#procfs.task(dir, name))
    else {
      const task = inRoot ? undefined : this.#procfs.recognize(dir)
      if (task) {
        this.#go(task)
        this.#stepTask(task, name)
      } else this.#stepEntry(dir, name, inRoot ? links : undefined)
    }
  }

  /** @param links in the root: there the links are names, as long as they are the entries themselves */
  #stepEntry(dir: Fd, name: string, links: Links | undefined): void {
    const next = openat(dir.raw, terminated(name), O_PATH | O_NOFOLLOW)
    if (!guarded(next, () => isLink(statx(next.raw)))) this.#go({ dir: next })
    else {
      next[Symbol.dispose]()
      if (!links) throw notFollowed()
      this.#followLink(openOwn(dir, name), links, true)
    }
  }

  #stepTask(place: TaskDirectory, name: string): void {
    const next = this.#procfs.enter(place, name)
    if ('object' in next) {
      guarded(next.object, () => this.#mayFollow(place.seen))
      this.#go({ dir: next.object })
    } else this.#go(next)
  }

  /** @param inRoot it is one of procfs that is a name; any other is mounted here, and its text is not where it leads */
  #followLink(link: Fd, links: Links, inRoot = false): void {
    using owned = link
    if (!inRoot && inProcfs(owned)) throw notFollowed()
    this.#mayFollow(owned)
    const target = text(readlink(owned))
    if (target === '') throw new SyscallError('walk', errno('ENOENT'))
    this.#follow(target, links)
  }

  /** @param link or something else of its mount */
  #mayFollow(link: Handle): void {
    if (++this.#links > LINKS || (fstatfs(link).flags & ST_NOSYMFOLLOW) !== 0) throw notFollowed()
  }

  #go(place: Place): void {
    close(this.#place)
    this.#place = place
  }
}
