import type { Tid } from '../../abi/brand.ts'
import { errnos } from '../../abi/errno.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY, O_WRONLY } from '../../abi/fcntl.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { linkMode, namespaceInode, openat, read } from '../../kernel/files.ts'
import { HeldMemory } from '../../kernel/proc-mem.ts'
import { GROUPS_LIMIT, type ProcStatus, parseStatus, TooManyGroups } from '../../kernel/procfs/status.ts'
import { waitReadable } from '../../kernel/socket.ts'
import { pin } from './find-task.ts'
import type { ProcAccess } from './proc-access.ts'
import { SleepState } from './sleep-state.ts'

/**
 * The thread that made a call, as `/proc/TID` shows it. What is opened by its number is its own as long as the call waits,
 * which is looked at after the opening. `using` closes all of it.
 */
export class CallerTask implements Disposable {
  readonly tid: Tid
  /** Asks the kernel whether the call still waits (SECCOMP_IOCTL_NOTIF_ID_VALID). */
  readonly waits: () => boolean
  readonly #context: ProcAccess
  readonly #opened: Disposable[] = []
  #taskDir: Fd | undefined
  #processDir: Fd | undefined
  #read: ProcStatus | undefined

  constructor(context: ProcAccess, tid: Tid, waits: () => boolean) {
    this.#context = context
    this.tid = tid
    this.waits = waits
  }

  /** Its `/proc/TID`: not needed for most calls. */
  get task(): Fd {
    if (!this.#taskDir) {
      const { proc, names } = this.#context
      const open = (): Fd => openat(proc.raw, names.of(this.tid, '.'), O_PATH | O_DIRECTORY)
      this.#taskDir = orContinue('gone', () => this.own(open()))
      this.mustWait()
    }
    return this.#taskDir
  }

  /** The directory of its process. */
  get process(): Fd {
    if (!this.#processDir) {
      const { proc, names } = this.#context
      const open = (): Fd => openat(proc.raw, names.of(this.status.tgid as Tid, '.'), O_PATH | O_DIRECTORY)
      this.#processDir = orContinue('gone', () => this.own(open()))
      this.mustWait()
    }
    return this.#processDir
  }

  get status(): ProcStatus {
    this.#read ??= this.#readStatus()
    return this.#read
  }

  /** Every call comes here: a function that is made for it would cost more than what it does. */
  #readStatus(): ProcStatus {
    const { proc, names, status } = this.#context
    try {
      const file = openat(proc.raw, names.of(this.tid, 'status'), O_RDONLY)
      try {
        return parseStatus(status, read(file, status))
      } finally {
        file[Symbol.dispose]()
      }
    } catch (error) {
      if (error instanceof TooManyGroups) throw new ContinueError('tooManyGroups', GROUPS_LIMIT)
      throw asContinue('gone', error)
    }
  }

  /** The inode of its user namespace. */
  get userns(): number {
    const { proc, names } = this.#context
    try {
      return namespaceInode(proc.raw, names.of(this.tid, 'ns/user'))
    } catch (error) {
      throw asContinue('gone', error)
    }
  }

  /** The text of its `/proc/TID/cgroup`. @returns how many bytes */
  cgroups(into: Uint8Array): number {
    const { identity, proc, names } = this.#context
    try {
      const file = identity.looking(() => openat(proc.raw, names.of(this.tid, 'cgroup'), O_RDONLY))
      try {
        // The kernel gives all of it at once (linux/fs/proc/base.c proc_single_show()).
        return read(file, into)
      } finally {
        file[Symbol.dispose]()
      }
    } catch (error) {
      throw asContinue('gone', error)
    }
  }

  get sleep(): SleepState {
    const { proc, names, identity } = this.#context
    return new SleepState({ tid: this.tid, proc, names, identity })
  }

  /** Its memory, held from now on: whether it still waits is to be looked at before anything is written. */
  openMemory(): HeldMemory {
    const { identity, proc, names } = this.#context
    const open = (name: string, flags: number): Fd => this.own(openat(proc.raw, names.of(this.tid, name), flags))
    const hold = (): HeldMemory => new HeldMemory(open('mem', O_WRONLY), open('maps', O_RDONLY))
    return orContinue('unreadable', () => identity.reaching(hold))
  }

  link(name: 'root' | 'cwd'): Fd {
    const { identity, proc, names } = this.#context
    try {
      return identity.looking(() => this.own(openat(proc.raw, names.of(this.tid, name), O_PATH)))
    } catch (error) {
      throw asContinue('gone', error)
    }
  }

  /** What a relative path starts from. The directory `/proc/TID/fd` is closed even to root without a capability over files. */
  base(dirfd: number): Fd {
    if (dirfd === AT_FDCWD) return this.link('cwd')
    const { identity, proc, names } = this.#context
    const open = (): Fd => this.own(openat(proc.raw, names.of(this.tid, `fd/${dirfd}`), O_PATH))
    return orContinue('pathNotResolved', () => identity.searching(open))
  }

  /**
   * A descriptor of O_PATH is no open file to most calls: EBADF. Its link in procfs has no permission at all, as the only
   * kind but that of the access mode 3, which nobody uses (linux/fs/proc/fd.c tid_fd_update_inode()).
   *
   * @throws {ContinueError}
   */
  mustBeOpen(fd: number): void {
    const { identity, proc, names } = this.#context
    const look = (): number => linkMode(proc, names.of(this.tid, `fd/${fd}`))
    const mode = orContinue('pathNotResolved', () => identity.searching(look))
    if ((mode & 0o700) === 0) throw new ContinueError('pathDescriptor')
  }

  /** @throws {ContinueError} */
  mustWait(): void {
    if (!this.waits()) throw new ContinueError('gone')
  }

  /**
   * Holds the task itself, for what takes longer than a call may wait: a signal may cancel that, again and again.
   *
   * @returns a check that it has not ended meanwhile, so that its number was its own @throws {ContinueError}
   */
  hold(): () => void {
    const pidfd = this.own(pin(this.tid))
    this.mustWait()
    return () => {
      if (waitReadable(pidfd, 0)) throw new ContinueError('gone')
    }
  }

  /** Closes it when the call is over. */
  own<T extends Disposable>(fd: T): T {
    this.#opened.push(fd)
    return fd
  }

  [Symbol.dispose](): void {
    for (const fd of this.#opened) fd[Symbol.dispose]()
  }
}

/** A failed look at the caller is no errno of its call: the kernel shall judge. */
export function orContinue<T>(code: 'gone' | 'unreadable' | 'pathNotResolved', look: () => T): T {
  try {
    return look()
  } catch (error) {
    throw asContinue(code, error)
  }
}

/** They tell of us, not of the caller. */
const OURS: ReadonlySet<number> = new Set([errnos.EMFILE, errnos.ENFILE, errnos.ENOMEM])

/** The same for who asks without a function. */
export function asContinue(code: Parameters<typeof orContinue>[0], error: unknown): unknown {
  if (error instanceof SyscallError) return new ContinueError(OURS.has(error.errno) ? 'lookFailed' : code, error.errno)
  return error instanceof RangeError ? new ContinueError(code) : error
}
