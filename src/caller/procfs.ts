import { fileType, S_IFLNK } from '../abi/stat.ts'
import { SyscallError } from '../kernel/error.ts'
import { dup, type Fd, guarded } from '../kernel/fd.ts'
import { type Identity, identify, O_PATH, O_RDONLY, openat } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { tidFromNamespace } from '../kernel/pidfd.ts'
import type { Numbers } from '../kernel/process.ts'
import type { Start } from './lookup.ts'
import { isSameTask, notFollowed, numbersOf, openOwn, terminated } from './procfs-entry.ts'

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
  /** Are the numbers that the caller sees the host's? */
  readonly known: boolean
  /** Is it `PID/task`? */
  readonly threads: boolean
}

type Entered = TaskDirectory | { readonly object: Fd }

export const isRoot = (dir: Handle): boolean => identify(dir.raw).ino === ROOT_INO

const isSame = (one: Identity, other: Identity): boolean => one.dev === other.dev && one.ino === other.ino

/** What a caller meets in a procfs, found again in the host's. Which procfs it is nothing tells: each mount is one of its own. */
export class Procfs {
  readonly #start: Start

  constructor(start: Start) {
    this.#start = start
  }

  /** What `self` and `thread-self` lead to: a path, on which a container may mount another directory. */
  self(root: Handle, name: 'self' | 'thread-self'): TaskDirectory {
    this.#start.looking(() => openOwn(root, name))[Symbol.dispose]()
    const known = this.#isKnown(root)
    const numbers = this.#numbers(root, known)
    if (!numbers) throw notFollowed()
    const [tid, tgid] = numbers
    const isThread = name === 'thread-self'
    const seen = this.#start.looking(() => openOwn(root, isThread ? `${tgid}/task/${tid}` : `${tgid}`))
    return this.#own(seen, isThread ? this.#thread : '.', known)
  }

  /** The task of this number; the number must be the entry itself: a container may mount another directory on it. */
  task(root: Handle, name: string): TaskDirectory {
    const seen = openOwn(root, name)
    const known = this.#isKnown(root)
    const task = guarded(seen, () => {
      const [tid, tgid] = this.#numbers(root, known) ?? []
      const number = Number(name)
      if (number === tgid) return this.#own(seen, '.', known)
      return number === tid ? this.#own(seen, this.#thread, known) : this.#other(seen, number, known)
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
    const known = this.#isKnown(root)
    const numbers = this.#numbers(root, known)
    if (!numbers) return undefined
    const [tid, tgid] = numbers
    const places = [
      [`${tgid}`, '.'],
      [`${tgid}/fd`, 'fd'],
      [`${tgid}/task`, 'task'],
      [`${tgid}/task/${tid}`, this.#thread],
      [`${tgid}/task/${tid}/fd`, `${this.#thread}/fd`],
      [`${tid}`, this.#thread],
    ] as const
    const wanted = identify(dir.raw)
    const place = places.find(([there]) => isAt(root, there, wanted))
    return place && this.#own(dup(dir), place[1], known)
  }

  /** What is in the directory of a task: an object that a link leads to, or a directory of it. */
  enter(place: TaskDirectory, name: string): Entered {
    if (name === UP) throw notFollowed()
    const { own, known } = place
    const here = place.threads ? this.#threadHere(name, known) : name
    const entered: Entered = this.#looking(own, (): Entered => {
      const seen = openOwn(place.seen, name)
      return guarded(seen, () => {
        using next = openOwn(place.dir, here)
        if (fileType(identify(next.raw).mode) !== S_IFLNK)
          return { dir: dup(next), seen, own, known, threads: here === 'task' }
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

  #own(seen: Fd, name: string, known: boolean): TaskDirectory {
    const dir = guarded(seen, () => openOwn(this.#start.process(), name))
    return { dir, seen, own: true, known, threads: name === 'task' }
  }

  #other(seen: Fd, number: number, known: boolean): TaskDirectory {
    const dir = this.#start.other?.(number, known)
    if (!dir) throw notFollowed()
    return { dir, seen, own: false, known, threads: false }
  }

  /** The number may be that of a task of another pid namespace than the caller's. */
  #same(task: TaskDirectory): TaskDirectory {
    const { seen, dir, own, known } = task
    if (known) return task
    return guarded(dir, () =>
      guarded(seen, () => {
        if (!this.#looking(own, () => isSameTask(this.#start.proc, seen, dir))) throw notFollowed()
        return task
      }),
    )
  }

  #isKnown(root: Handle): boolean {
    return isSame(identify(root.raw), identify(this.#start.proc.raw))
  }

  /** Of the caller: as the host sees them, or as they are in a procfs of another pid namespace, if it is there what it is here. */
  #numbers(root: Handle, known: boolean): Numbers | undefined {
    const start = this.#start
    if (known) return start.numbers
    const own = start.process()
    return start.looking(() => {
      using thread = openOwn(own, this.#thread)
      const [, ...others] = numbersOf(start.proc, thread)
      return others.find(([tid, tgid]) => isTask(start.proc, root, `${tgid}/task/${tid}`, thread))
    })
  }

  /** The host's number of a thread of which the caller sees another one. */
  #threadHere(name: string, known: boolean): string {
    if (known) return name
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

  #looking<T>(own: boolean, action: () => T): T {
    const start = this.#start
    return own || !start.lookingAtOther ? start.looking(action) : start.lookingAtOther(action)
  }
}

function isAt(root: Handle, name: string, wanted: Identity): boolean {
  try {
    using seen = openOwn(root, name)
    return isSame(identify(seen.raw), wanted)
  } catch (error) {
    if (error instanceof SyscallError) return false
    throw error
  }
}

function isTask(proc: Handle, root: Handle, name: string, wanted: Handle): boolean {
  try {
    using seen = openOwn(root, name)
    return isSameTask(proc, seen, wanted)
  } catch (error) {
    if (error instanceof SyscallError) return false
    throw error
  }
}
