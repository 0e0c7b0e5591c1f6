import { OVERFLOW_ID } from '../../abi/credentials.ts'
import { errno } from '../../abi/errno.ts'
import { O_NOFOLLOW, O_PATH } from '../../abi/fcntl.ts'
import { ST_NOSYMFOLLOW } from '../../abi/mount.ts'
import { fileType, PROC_SUPER_MAGIC, S_IFDIR, S_IFLNK, S_ISVTX, S_IWOTH } from '../../abi/stat.ts'
import { SyscallError } from '../../kernel/error.ts'
import { dup, type Fd, guarded, type Handle } from '../../kernel/fd.ts'
import { fileSystemType, fstatfs, type Identity, openat, readlink, statx } from '../../kernel/files.ts'
import type { LookupKind, LookupRequest, LookupStart } from './lookup-types.ts'
import { isRoot, notFollowed, openOwn, Procfs, type TaskDirectory, terminated } from './procfs.ts'

/** Maximum number of links that one path may follow, as in the kernel (MAXSYMLINKS). */
const LINKS = 40
/** Maximum number of components. Each takes several system calls: forty links of a page each would take a second. */
const STEPS = 1000
const NUMBER = /^[1-9]\d*$/
const SLASH = 0x2f

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
const inProcfs = (object: Fd): boolean => fileSystemType(object) === PROC_SUPER_MAGIC
const isLink = ({ mode }: Identity): boolean => fileType(mode) === S_IFLNK
/** A sticky, world-writable directory: everybody may create links there, and nobody may remove those of other users. */
const isForAll = ({ mode }: Identity): boolean => (mode & (S_ISVTX | S_IWOTH)) === (S_ISVTX | S_IWOTH)

/**
 * How a symbolic link is treated:
 *
 *   inner     followed, as in the middle of a path
 *   trailing  followed as the last component, where the kernel checks who owns the link (WALK_TRAILING)
 *   kept      not followed: the link itself is the result
 */
type Links = 'inner' | 'trailing' | 'kept'

/**
 * The treatment of the last component by kind. A parent directory is never the last component for the kernel
 * (LOOKUP_PARENT). Paths through procfs are not walked for `outsideProc`.
 */
const AT_END: Readonly<Record<LookupKind, Links>> = {
  directory: 'inner',
  object: 'trailing',
  link: 'kept',
  outsideProc: 'trailing',
}

/** The position of a walk: an object that the caller reaches, or a directory of a task in procfs. */
type Position = { readonly dir: Fd } | TaskDirectory

function close(position: Position): void {
  position.dir[Symbol.dispose]()
  if ('seen' in position) position.seen[Symbol.dispose]()
}

/**
 * Resolves a path through procfs component by component, as the caller; `self` and `thread-self` are the caller's.
 * Magic links of a process, which lead to an object instead of a path, are never followed in a procfs that the
 * container sees: between our check and our use of a link the container can mount the link of another process on it.
 * They are followed in our own mount of procfs, if the process is the caller's or, for a walker, in the container.
 *
 * Links that the kernel would not follow (linux/fs/namei.c pick_link()) are not followed. That includes links which
 * fs.protected_symlinks forbids, whether or not it is set: if it is not, the kernel has already followed every link
 * that does not lead into procfs.
 *
 * @throws {SyscallError} what the kernel would say; ELOOP also for a link that is not followed, EACCES for a link
 *   that only the walker follows
 */
export function walk(start: LookupStart, goal: LookupRequest): Fd {
  return new Walk(start).resolve(goal)
}

class Walk {
  readonly #start: LookupStart
  readonly #procfs: Procfs
  #position: Position
  #links = 0
  #steps = 0

  constructor(start: LookupStart) {
    this.#start = start
    this.#procfs = new Procfs(start)
    this.#position = { dir: dup(start.base) }
  }

  resolve({ path, wanted }: LookupRequest): Fd {
    try {
      this.#follow(text(path.subarray(0, -1)), AT_END[wanted])
      // No file can be created in procfs; the kernel reports that.
      if ('own' in this.#position) throw notFollowed()
      if (wanted === 'directory') this.#mustBeDirectory()
      return this.#position.dir
    } catch (error) {
      close(this.#position)
      throw error
    }
  }

  /**
   * Walks all components of a path.
   *
   * @param atEnd treatment of a link as the last component; a link before a trailing slash is always followed
   */
  #follow(path: string, atEnd: Links): void {
    if (path.charCodeAt(0) === SLASH) this.#go({ dir: dup(this.#start.root()) })
    const names = path.split('/')
    const last = names.at(-1)!
    const end = names.findLastIndex((name) => name !== '')
    const links = last === '' && atEnd === 'kept' ? 'trailing' : atEnd
    names.forEach((name, index) => {
      if (name !== '' && name !== '.') this.#step(name, index === end ? links : 'inner')
    })
    // This check also covers a link in the middle of a path that leads to "file/".
    if (last === '' || last === '.') this.#mustBeDirectory()
    // The kernel asks for the right to search before it looks at a name: linux/fs/namei.c may_lookup()
    if (last === '.' && !('own' in this.#position))
      openat(this.#position.dir.raw, terminated('.'), O_PATH)[Symbol.dispose]()
  }

  #mustBeDirectory(): void {
    if (fileType(statx(this.#position.dir.raw).mode) !== S_IFDIR) throw new SyscallError('walk', errno('ENOTDIR'))
  }

  #step(name: string, links: Links): void {
    if (++this.#steps > STEPS) throw notFollowed()
    const position = this.#position
    const { dir } = position
    const within = inProcfs(dir)
    // No attribute of a link of procfs can be changed; the kernel reports that.
    if (links === 'kept' && within) throw notFollowed()
    if ('own' in position) this.#stepTask(position, name)
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

  /**
   * Requires that the owner of a link in a sticky, world-writable directory is the caller or the directory's owner.
   * The overflow uid may stand for any user, so it counts as neither. @see linux/fs/namei.c may_follow_link()
   */
  #mustBeTrusted({ uid }: Identity, dir: Handle): void {
    const parent = statx(dir.raw)
    const isOwners = uid !== OVERFLOW_ID && (uid === this.#start.fsuid || uid === parent.uid)
    if (!isOwners && isForAll(parent)) throw new SyscallError('walk', errno('EACCES'))
  }

  /**
   * Takes a component in procfs: the root has `self`, `thread-self` and numbers; directories below it have magic
   * links.
   */
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

  /**
   * Takes an ordinary entry of procfs.
   *
   * @param links how links are treated in the root, where procfs's own links are paths; undefined below the root
   */
  #stepEntry(dir: Fd, name: string, links: Links | undefined): void {
    const next = openat(dir.raw, terminated(name), O_PATH | O_NOFOLLOW)
    if (!guarded(next, () => isLink(statx(next.raw)))) this.#go({ dir: next })
    else {
      next[Symbol.dispose]()
      if (!links) throw notFollowed()
      this.#followLink(openOwn(dir, name), links, true)
    }
  }

  #stepTask(position: TaskDirectory, name: string): void {
    const next = this.#procfs.enter(position, name)
    if ('object' in next) {
      guarded(next.object, () => this.#mayFollow(position.seen))
      this.#go({ dir: next.object })
    } else this.#go(next)
  }

  /**
   * Follows a link by its text.
   *
   * @param inRoot true for a procfs entry of the root, whose text is its path. Any other link of procfs was mounted
   *   here by the container, and its text is not where it leads.
   */
  #followLink(link: Fd, links: Links, inRoot = false): void {
    using owned = link
    if (!inRoot && inProcfs(owned)) throw notFollowed()
    this.#mayFollow(owned)
    const target = text(readlink(owned))
    if (target === '') throw new SyscallError('walk', errno('ENOENT'))
    this.#follow(target, links)
  }

  /**
   * Counts a link and checks that its mount allows following links. @param link the link, or another object of its
   * mount
   */
  #mayFollow(link: Handle): void {
    if (++this.#links > LINKS || (fstatfs(link).flags & ST_NOSYMFOLLOW) !== 0) throw notFollowed()
  }

  #go(position: Position): void {
    close(this.#position)
    this.#position = position
  }
}
