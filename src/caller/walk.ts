import type { Errno, PathBytes } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { fileType, S_IFDIR, S_IFLNK } from '../abi/stat.ts'
import { SyscallError } from '../kernel/error.ts'
import { dup, type Fd } from '../kernel/fd.ts'
import { fileSystemType, identify, O_NOFOLLOW, O_PATH, openat, PROC_SUPER_MAGIC, readlink } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import type { Start } from './lookup.ts'

/** Links that one path may follow, as in the kernel (MAXSYMLINKS). */
const LINKS = 40
const PROC_ROOT_INO = 1n
const SLASH = 0x2f

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
const terminated = (name: string): Uint8Array => Buffer.from(`${name}\0`, 'latin1')

/**
 * Where a walk stands: in a directory, or in the caller's own directory of procfs, `/proc/self`, which is entered through
 * the caller's handle and never through the name, since the looking thread has another `self`.
 */
type Place = { readonly dir: Fd; readonly own?: 'task' | 'fd' }

/**
 * Resolves a path that crosses procfs, component by component, as the caller. `self` and `thread-self` are the caller's;
 * its links `cwd`, `root` and `fd/N` open through its handle. The links of another process are followed only in a procfs
 * in which the looking process does not exist: there no number can be ours.
 *
 * @throws {SyscallError} what the kernel would say; ELOOP also for what is not followed
 */
export function walk(start: Start, path: PathBytes): Fd {
  return new Walk(start).resolve(text(path.subarray(0, -1)))
}

class Walk {
  readonly #start: Start
  #place: Place
  #links = 0

  constructor(start: Start) {
    this.#start = start
    this.#place = { dir: dup(start.base) }
  }

  resolve(path: string): Fd {
    try {
      this.#follow(path)
      const { dir, own } = this.#place
      // Nothing can be made in procfs; the kernel says so.
      if (own || fileType(identify(dir.raw).mode) !== S_IFDIR)
        throw new SyscallError('walk', errno(own ? 'ELOOP' : 'ENOTDIR'))
      return dir
    } catch (error) {
      this.#place.dir[Symbol.dispose]()
      throw error
    }
  }

  #follow(path: string): void {
    if (path.charCodeAt(0) === SLASH) this.#go(dup(this.#start.root))
    for (const name of path.split('/')) if (name !== '' && name !== '.') this.#step(name)
  }

  #step(name: string): void {
    const { dir, own } = this.#place
    if (own) {
      this.#stepOwn(own, name)
      return
    }
    if (fileSystemType(dir) === PROC_SUPER_MAGIC && name !== '..') {
      this.#stepProc(dir, name)
      return
    }
    const next = openat(dir.raw, terminated(name), O_PATH | O_NOFOLLOW)
    if (fileType(identify(next.raw).mode) === S_IFLNK) this.#followLink(next)
    else this.#go(next)
  }

  /** In procfs: its root knows `self`; below it are links that lead to objects. */
  #stepProc(dir: Fd, name: string): void {
    const inRoot = identify(dir.raw).ino === PROC_ROOT_INO
    if (inRoot && (name === 'self' || name === 'thread-self')) {
      this.#place = { dir, own: 'task' }
      return
    }
    const next = openat(dir.raw, terminated(name), O_PATH | O_NOFOLLOW)
    if (fileType(identify(next.raw).mode) !== S_IFLNK) {
      this.#go(next)
      return
    }
    if (inRoot) {
      this.#followLink(next)
      return
    }
    next[Symbol.dispose]()
    if (!this.#isStranger(dir)) throw new SyscallError('walk', errno('ELOOP'))
    this.#count()
    this.#go(openat(dir.raw, terminated(name), O_PATH))
  }

  /** Below `/proc/self` of the caller: what leads out of procfs is opened through the caller's own handle. */
  #stepOwn(own: 'task' | 'fd', name: string): void {
    const { dir } = this.#place
    if (own === 'task' && name === 'fd') this.#place = { dir, own: 'fd' }
    else if (own === 'task' && (name === 'cwd' || name === 'root')) this.#object(name)
    else if (own === 'fd' && /^(0|[1-9]\d*)$/.test(name)) this.#object(`fd/${name}`)
    else throw new SyscallError('walk', errno('ELOOP'))
  }

  #object(name: string): void {
    this.#count()
    this.#go(openat(this.#start.task.raw, terminated(name), O_PATH))
  }

  #followLink(link: Fd): void {
    using owned = link
    this.#count()
    const target = text(readlink(owned))
    if (target === '') throw new SyscallError('walk', errno('ENOENT'))
    this.#follow(target)
  }

  /** Is our process unknown to this procfs? Its `self` says so: it has no target then. */
  #isStranger(dir: Fd): boolean {
    using root = this.#rootOf(dir)
    try {
      openat(root.raw, terminated('self/'), O_PATH)[Symbol.dispose]()
      return false
    } catch (error) {
      return error instanceof SyscallError && error.errno === (errno('ENOENT') as Errno)
    }
  }

  /** The root of the procfs in which `dir` lies. */
  #rootOf(dir: Handle): Fd {
    let at = dup(dir)
    for (let depth = 0; depth < LINKS && identify(at.raw).ino !== PROC_ROOT_INO; depth++) {
      using below = at
      at = openat(below.raw, terminated('..'), O_PATH)
    }
    return at
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
