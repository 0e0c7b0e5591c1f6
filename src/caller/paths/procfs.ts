import type { Tid } from '../../abi/brand.ts'
import { errno } from '../../abi/errno.ts'
import { O_NOFOLLOW, O_PATH, O_RDONLY, RESOLVE_NO_XDEV } from '../../abi/fcntl.ts'
import { fileType, S_IFLNK } from '../../abi/stat.ts'
import { isErrno, orFalse, SyscallError } from '../../kernel/error.ts'
import { dup, type Fd, guarded, type Handle } from '../../kernel/fd.ts'
import { type Identity, openat, openat2, statx } from '../../kernel/files.ts'
import { tidFromNamespace } from '../../kernel/pidfd.ts'
import { type Numbers, numbersIn, startIn } from '../../kernel/process.ts'
import type { LookupStart } from './lookup-types.ts'

/** Returns a name as NUL-terminated bytes; strings hold the bytes of names as Latin-1. */
export const terminated = (name: string): Uint8Array => Buffer.from(`${name}\0`, 'latin1')

export const notFollowed = (): SyscallError => new SyscallError('walk', errno('ELOOP'))

/**
 * Returns the error after which the walker is asked, the same (EACCES) as of a file system that admits only the
 * container.
 */
const forWalker = (): SyscallError => new SyscallError('walk', errno('EACCES'))

/**
 * Opens what procfs itself has under `name`, which may be a path of several entries.
 *
 * @throws {SyscallError} ELOOP if a container has mounted something on an entry of the path
 */
export function openOwn(dir: Handle, name: string): Fd {
  try {
    return openat2(dir.raw, terminated(name), O_PATH | O_NOFOLLOW, RESOLVE_NO_XDEV)
  } catch (error) {
    throw isErrno(error, 'EXDEV') ? notFollowed() : error
  }
}

/**
 * Reads a file of a task in a procfs that a container sees. The entry is first opened with O_PATH to see that it is
 * procfs's own: opening a file that the container mounted on it could block for ever.
 */
function readOwn<T>(proc: Handle, task: Handle, name: string, read: (directory: number, path: Uint8Array) => T): T {
  using entry = openOwn(task, name)
  return read(proc.raw, terminated(`self/fd/${entry.raw}`))
}

/** Returns the task's numbers in each pid namespace. @param proc our own mount of procfs */
const numbersOf = (proc: Handle, task: Handle): readonly Numbers[] => readOwn(proc, task, 'status', numbersIn)

/**
 * Tells whether two directories are of the same task, though the same number may belong to different tasks in
 * different pid namespaces. It compares all numbers and the start time, which many tasks share within one tick of the
 * clock.
 *
 * @param depth how many pid namespaces lie between our procfs and the procfs of `seen`
 */
function isSameTask(proc: Handle, seen: Handle, task: Handle, depth: number): boolean {
  const expected = numbersOf(proc, task).slice(depth)
  return (
    expected.length > 0 &&
    String(expected) === String(numbersOf(proc, seen)) &&
    readOwn(proc, seen, 'stat', startIn) === readOwn(proc, task, 'stat', startIn)
  )
}

const ROOT_INO = 1n
/** Maximum depth of a recognized directory below the root: `PID/task/TID/fd`. */
const DEPTH = 4
const NS_PID = Buffer.from('ns/pid\0')
const UP = '..'

/**
 * A directory of a task in our own mount of the host's procfs. Its links lead where the links in the caller's procfs
 * lead, but nobody can mount over them between two looks. It is never the result of a lookup, and `..` from it is not
 * followed.
 */
export interface TaskDirectory {
  readonly dir: Fd
  /**
   * The same directory in the procfs that the caller sees. What the container mounted on an entry there leads
   * elsewhere.
   */
  readonly seen: Fd
  /** True for a directory of the caller's own process. */
  readonly own: boolean
  /** How many pid namespaces the caller's procfs is below the host's; at 0 its numbers are the host's. */
  readonly depth: number
  /** True for `PID/task`, whose entries are numbers of threads. */
  readonly threads: boolean
}

/** The caller's numbers in a procfs that it sees. */
interface Found {
  readonly numbers: Numbers
  readonly depth: number
  /**
   * True if the procfs has the numbers of the caller's own pid namespace or the host's; only then the numbers of
   * other tasks can be translated.
   */
  readonly translates: boolean
}

type Entered = TaskDirectory | { readonly object: Fd }

export const isRoot = (dir: Handle): boolean => statx(dir.raw).ino === ROOT_INO

const isSame = (one: Identity, other: Identity): boolean => one.dev === other.dev && one.ino === other.ino

/**
 * Finds the entries of a procfs that the caller sees again in the host's procfs. Nothing tells to which pid namespace
 * a procfs mount belongs, since each mount has a superblock of its own; it is found by the caller's numbers there.
 */
export class Procfs {
  readonly #start: LookupStart

  constructor(start: LookupStart) {
    this.#start = start
  }

  /**
   * Returns the directory to which `self` or `thread-self` leads. The link is a path, on which a container may have
   * mounted another directory.
   */
  self(root: Handle, name: 'self' | 'thread-self'): TaskDirectory {
    this.#start.looking(() => openOwn(root, name))[Symbol.dispose]()
    const found = this.#find(root)
    if (!found) throw notFollowed()
    const [tid, tgid] = found.numbers
    const isThread = name === 'thread-self'
    const seen = this.#start.looking(() => openOwn(root, isThread ? `${tgid}/task/${tid}` : `${tgid}`))
    return this.#own(seen, isThread ? this.#thread : '.', found.depth)
  }

  /**
   * Returns the directory of the task with this number. `openOwn` makes sure that the container mounted nothing on
   * the entry.
   */
  task(root: Handle, name: string): TaskDirectory {
    const seen = openOwn(root, name)
    const task = guarded(seen, () => {
      const found = this.#find(root)
      if (!found) throw notFollowed()
      const [tid, tgid] = found.numbers
      const number = Number(name)
      if (number === tgid) return this.#own(seen, '.', found.depth)
      return number === tid ? this.#own(seen, this.#thread, found.depth) : this.#other(seen, number, found)
    })
    return this.#same(task)
  }

  /**
   * Recognizes a directory of the caller's own process which the caller has open or as its working directory. A wrong
   * match would do no harm, since it leads to the caller's own links.
   */
  recognize(dir: Handle): TaskDirectory | undefined {
    using root = this.#rootOf(dir)
    if (!root) return undefined
    const found = this.#find(root)
    if (!found) return undefined
    const [tid, tgid] = found.numbers
    const candidates = [
      [`${tgid}`, '.'],
      [`${tgid}/fd`, 'fd'],
      [`${tgid}/task`, 'task'],
      [`${tgid}/task/${tid}`, this.#thread],
      [`${tgid}/task/${tid}/fd`, `${this.#thread}/fd`],
      [`${tid}`, this.#thread],
    ] as const
    const wanted = statx(dir.raw)
    const match = candidates.find(([there]) => isAt(root, there, wanted))
    return match && this.#own(dup(dir), match[1], found.depth)
  }

  /** Returns the entry of a task's directory: the object to which a magic link leads, or a subdirectory. */
  enter(directory: TaskDirectory, name: string): Entered {
    if (name === UP) throw notFollowed()
    const { own, depth } = directory
    const here = directory.threads ? this.#threadHere(name, depth) : name
    const entered: Entered = this.#looking(own, (): Entered => {
      const seen = openOwn(directory.seen, name)
      return guarded(seen, () => {
        using next = openOwn(directory.dir, here)
        if (fileType(statx(next.raw).mode) !== S_IFLNK)
          return { dir: dup(next), seen, own, depth, threads: here === 'task' }
        const object = openat(directory.dir.raw, terminated(here), O_PATH)
        seen[Symbol.dispose]()
        return { object }
      })
    })
    return directory.threads && 'dir' in entered ? this.#same(entered) : entered
  }

  get #thread(): string {
    return `task/${this.#start.numbers[0]}`
  }

  #own(seen: Fd, name: string, depth: number): TaskDirectory {
    const dir = guarded(seen, () => openOwn(this.#start.process(), name))
    return { dir, seen, own: true, depth, threads: name === 'task' }
  }

  #other(seen: Fd, number: number, { depth, translates }: Found): TaskDirectory {
    const start = this.#start
    if (!translates || !start.isPtracer) throw notFollowed()
    if (!start.other) throw forWalker()
    using namespace = depth === 0 ? undefined : this.#namespace
    const dir = start.other(() => (namespace ? tidFromNamespace(namespace, number) : (number as Tid)))
    return { dir, seen, own: false, depth, threads: false }
  }

  /** Checks that both directories are of the same task: the number may belong to a task of another pid namespace. */
  #same(task: TaskDirectory): TaskDirectory {
    const { seen, dir, own, depth } = task
    if (depth === 0) return task
    return guarded(dir, () =>
      guarded(seen, () => {
        if (!this.#looking(own, () => isSameTask(this.#start.proc, seen, dir, depth))) throw notFollowed()
        return task
      }),
    )
  }

  #isKnown(root: Handle): boolean {
    return isSame(statx(root.raw), statx(this.#start.proc.raw))
  }

  /**
   * Returns the caller's numbers in this procfs: the host's numbers in our own, else the numbers of the pid namespace
   * at whose numbers the procfs shows the caller itself.
   */
  #find(root: Handle): Found | undefined {
    const start = this.#start
    if (this.#isKnown(root)) return { numbers: start.numbers, depth: 0, translates: true }
    const own = start.process()
    return start.looking(() => {
      using thread = openOwn(own, this.#thread)
      const all = numbersOf(start.proc, thread)
      for (let depth = 1; depth < all.length; depth++) {
        const numbers = all[depth]!
        const [tid, tgid] = numbers
        const isThere = isTask(start.proc, root, `${tgid}/task/${tid}`, thread, depth)
        if (isThere) return { numbers, depth, translates: depth === all.length - 1 }
      }
      return undefined
    })
  }

  /** Translates a thread's number in the caller's pid namespace to the host's. */
  #threadHere(name: string, depth: number): string {
    if (depth === 0) return name
    using namespace = this.#namespace
    return `${tidFromNamespace(namespace, Number(name))}`
  }

  get #namespace(): Fd {
    const process = this.#start.process()
    return this.#start.looking(() => openat(process.raw, NS_PID, O_RDONLY))
  }

  /** Opens the root of the procfs of `dir`; undefined if something is mounted on the way up. */
  #rootOf(dir: Handle): Fd | undefined {
    let at = dup(dir)
    try {
      for (let depth = 0; depth < DEPTH && !isRoot(at); depth++) {
        using below = at
        at = this.#start.looking(() => openOwn(below, UP))
      }
    } catch (error) {
      if (error instanceof SyscallError) return undefined
      throw error
    }
    if (isRoot(at)) return at
    at[Symbol.dispose]()
    return undefined
  }

  /**
   * Runs `action` with the extra right for the caller's own process, and for other tasks with the caller's rights
   * alone.
   */
  #looking<T>(own: boolean, action: () => T): T {
    return own ? this.#start.looking(action) : action()
  }
}

const isAt = (root: Handle, name: string, wanted: Identity): boolean =>
  orFalse('any', () => {
    using seen = openOwn(root, name)
    return isSame(statx(seen.raw), wanted)
  })

const isTask = (proc: Handle, root: Handle, name: string, wanted: Handle, depth: number): boolean =>
  orFalse('any', () => {
    using seen = openOwn(root, name)
    return isSameTask(proc, seen, wanted, depth)
  })
