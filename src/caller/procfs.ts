import { errno } from '../abi/errno.ts'
import { fileType, S_IFLNK } from '../abi/stat.ts'
import { SyscallError } from '../kernel/error.ts'
import { dup, type Fd, guarded } from '../kernel/fd.ts'
import {
  type Identity,
  identify,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  openat,
  openat2,
  RESOLVE_NO_XDEV,
} from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { numberInNamespace, tidFromNamespace } from '../kernel/pidfd.ts'
import { startIn } from '../kernel/process.ts'
import type { Start } from './lookup.ts'

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
  /** Of the caller's own process. */
  readonly own: boolean
  /** Are the numbers that the caller sees the host's? */
  readonly known: boolean
  /** Is it `PID/task`? */
  readonly threads: boolean
}

/** A name is bytes, which text has as Latin-1. */
export const terminated = (name: string): Uint8Array => Buffer.from(`${name}\0`, 'latin1')

export const notFollowed = (): SyscallError => new SyscallError('walk', errno('ELOOP'))

/** Opens what the file system itself has under `name`, not what a container may have mounted on it. */
export const openOwn = (dir: Handle, name: string): Fd =>
  openat2(dir.raw, terminated(name), O_PATH | O_NOFOLLOW, RESOLVE_NO_XDEV)

export const isRoot = (dir: Handle): boolean => identify(dir.raw).ino === ROOT_INO

const isSame = (one: Identity, other: Identity): boolean => one.dev === other.dev && one.ino === other.ino

/** What a caller meets in a procfs, found again in the host's. Which procfs it is nothing tells: each mount is one of its own. */
export class Procfs {
  readonly #start: Start

  constructor(start: Start) {
    this.#start = start
  }

  /** What `self` and `thread-self` lead to. */
  self(root: Handle, name: 'self' | 'thread-self'): TaskDirectory {
    return this.#own(name === 'self' ? '.' : this.#thread, this.#isKnown(root))
  }

  /** The task of this number; the number must be the entry itself: a container may mount another directory on it. */
  task(root: Handle, name: string): TaskDirectory {
    using seen = openOwn(root, name)
    const known = this.#isKnown(root)
    const [tid, tgid] = this.#numbers(known) ?? []
    const number = Number(name)
    const found = number === tgid ? this.#own('.', known) : number === tid ? this.#own(this.#thread, known) : undefined
    const task = found ?? this.#other(number, known)
    return guarded(task.dir, () => {
      // Of another pid namespace than the caller's.
      if (!known && this.#startOf(seen) !== this.#startOf(task.dir)) throw notFollowed()
      return task
    })
  }

  /**
   * Finds a directory again in which the caller stands or that it holds, if it is one of its own. To take another one for that
   * would only make its links the caller's.
   */
  recognize(dir: Handle): TaskDirectory | undefined {
    using root = this.#rootOf(dir)
    if (!root) return undefined
    const known = this.#isKnown(root)
    const numbers = this.#numbers(known)
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
    return place && this.#own(place[1], known)
  }

  /** What is in the directory of a task: an object that a link leads to, or a directory of it. */
  enter(place: TaskDirectory, name: string): TaskDirectory | { readonly object: Fd } {
    if (name === UP) throw notFollowed()
    const { own, known } = place
    const here = place.threads ? this.#threadHere(name, known) : name
    return this.#looking(own, () => {
      using next = openOwn(place.dir, here)
      if (fileType(identify(next.raw).mode) === S_IFLNK)
        return { object: openat(place.dir.raw, terminated(here), O_PATH) }
      return { dir: dup(next), own, known, threads: here === 'task' }
    })
  }

  get #thread(): string {
    return `task/${this.#start.numbers[0]}`
  }

  #own(name: string, known: boolean): TaskDirectory {
    return { dir: openOwn(this.#start.process(), name), own: true, known, threads: name === 'task' }
  }

  #other(number: number, known: boolean): TaskDirectory {
    const dir = this.#start.other?.(number, known)
    if (!dir) throw notFollowed()
    return { dir, own: false, known, threads: false }
  }

  #isKnown(root: Handle): boolean {
    return isSame(identify(root.raw), identify(this.#start.proc.raw))
  }

  /** Of the caller: as the host sees them, or as its own pid namespace does. undefined before 6.11 */
  #numbers(known: boolean): readonly [tid: number, tgid: number] | undefined {
    const { numbers } = this.#start
    if (known) return numbers
    using namespace = this.#namespace
    const [tid, tgid] = numbers.map((number) => numberInNamespace(namespace, number))
    return tid === undefined || tgid === undefined ? undefined : [tid, tgid]
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

  /**
   * Tells two tasks apart that have the same number in different pid namespaces. The file must be the entry itself, before it is
   * opened for reading: to open another one could take for ever.
   */
  #startOf(task: Handle): number {
    using stat = openOwn(task, 'stat')
    return startIn(this.#start.proc.raw, terminated(`self/fd/${stat.raw}`))
  }

  #looking<T>(own: boolean, action: () => T): T {
    const { looking, lookingAtOther } = this.#start
    return own || !lookingAtOther ? looking(action) : lookingAtOther(action)
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
