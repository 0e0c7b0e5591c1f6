import type { Tid } from '../../abi/brand.ts'
import { O_PATH, O_RDONLY } from '../../abi/fcntl.ts'
import { fileType, S_IFLNK } from '../../abi/stat.ts'
import { orFalse, SyscallError } from '../../kernel/error.ts'
import { dup, type Fd, guarded } from '../../kernel/fd.ts'
import { type Identity, openat, statx } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { tidFromNamespace } from '../../kernel/pidfd.ts'
import type { Numbers } from '../../kernel/process.ts'
import type { LookupStart } from './lookup-types.ts'
import { forWalker, isSameTask, notFollowed, numbersOf, openOwn, terminated } from './procfs-entry.ts'

const ROOT_INO = 1n
/** As deep as `PID/task/TID/fd`. */
const DEPTH = 4
const NS_PID = Buffer.from('ns/pid\0')
const UP = '..'

/**
 * A directory of a task, in our own mount of the host's procfs: its links lead where they lead in the caller's, but nobody
 * can mount another one on them between a look and the next. It is never handed out, and no way leads up from it.
 */
export interface TaskDirectory {
  readonly dir: Fd
  /** The same in the procfs that the caller sees: what is mounted on an entry there leads elsewhere. */
  readonly seen: Fd
  /** Of the caller's own process. */
  readonly own: boolean
  /** By how many pid namespaces the procfs that the caller sees is below the host's: with none, its numbers are the host's. */
  readonly depth: number
  /** Is it `PID/task`? */
  readonly threads: boolean
}

/** The caller, as a procfs shows it. */
interface Found {
  readonly numbers: Numbers
  readonly depth: number
  /** Are the numbers those that the caller itself knows, or the host's? Only then those of other tasks can be found. */
  readonly translates: boolean
}

type Entered = TaskDirectory | { readonly object: Fd }

export const isRoot = (dir: Handle): boolean => statx(dir.raw).ino === ROOT_INO

const isSame = (one: Identity, other: Identity): boolean => one.dev === other.dev && one.ino === other.ino

/** What a caller meets in a procfs, found again in the host's. Which procfs it is nothing tells: each mount is one of its own. */
export class Procfs {
  readonly #start: LookupStart

  constructor(start: LookupStart) {
    this.#start = start
  }

  /** What `self` and `thread-self` lead to: a path, on which a container may mount another directory. */
  self(root: Handle, name: 'self' | 'thread-self'): TaskDirectory {
    this.#start.looking(() => openOwn(root, name))[Symbol.dispose]()
    const found = this.#find(root)
    if (!found) throw notFollowed()
    const [tid, tgid] = found.numbers
    const isThread = name === 'thread-self'
    const seen = this.#start.looking(() => openOwn(root, isThread ? `${tgid}/task/${tid}` : `${tgid}`))
    return this.#own(seen, isThread ? this.#thread : '.', found.depth)
  }

  /** The task of this number; the number must be the entry itself: a container may mount another directory on it. */
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
   * Finds a directory again in which the caller stands or that it holds, if it is one of its own. To take another one for that
   * would only make its links the caller's.
   */
  recognize(dir: Handle): TaskDirectory | undefined {
    using root = this.#rootOf(dir)
    if (!root) return undefined
    const found = this.#find(root)
    if (!found) return undefined
    const [tid, tgid] = found.numbers
    const places = [
      [`${tgid}`, '.'],
      [`${tgid}/fd`, 'fd'],
      [`${tgid}/task`, 'task'],
      [`${tgid}/task/${tid}`, this.#thread],
      [`${tgid}/task/${tid}/fd`, `${this.#thread}/fd`],
      [`${tid}`, this.#thread],
    ] as const
    const wanted = statx(dir.raw)
    const place = places.find(([there]) => isAt(root, there, wanted))
    return place && this.#own(dup(dir), place[1], found.depth)
  }

  /** What is in the directory of a task: an object that a link leads to, or a directory of it. */
  enter(place: TaskDirectory, name: string): Entered {
    if (name === UP) throw notFollowed()
    const { own, depth } = place
    const here = place.threads ? this.#threadHere(name, depth) : name
    const entered: Entered = this.#looking(own, (): Entered => {
      const seen = openOwn(place.seen, name)
      return guarded(seen, () => {
        using next = openOwn(place.dir, here)
        if (fileType(statx(next.raw).mode) !== S_IFLNK)
          return { dir: dup(next), seen, own, depth, threads: here === 'task' }
        const object = openat(place.dir.raw, terminated(here), O_PATH)
        seen[Symbol.dispose]()
        return { object }
      })
    })
    return place.threads && 'dir' in entered ? this.#same(entered) : entered
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

  /** The number may be that of a task of another pid namespace than the caller's. */
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

  /** The caller as the host sees it, or as it is in a procfs of another pid namespace, if it is there what it is here. */
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

  /** The host's number of a thread of which the caller sees another one. */
  #threadHere(name: string, depth: number): string {
    if (depth === 0) return name
    using namespace = this.#namespace
    return `${tidFromNamespace(namespace, Number(name))}`
  }

  get #namespace(): Fd {
    const process = this.#start.process()
    return this.#start.looking(() => openat(process.raw, NS_PID, O_RDONLY))
  }

  /** The root of the procfs in which `dir` is, if nothing is mounted on the way up. */
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

  /** At another task with the rights of the caller alone. */
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
