import type { Tid } from '../../abi/brand.ts'
import { errnos } from '../../abi/errno.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY, O_WRONLY } from '../../abi/fcntl.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { linkMode, namespaceInode, openat, read } from '../../kernel/files.ts'
import { pidfdIsAlive } from '../../kernel/pidfd.ts'
import { type TimeNamespace, timeNamespaceOf } from '../../kernel/process.ts'
import { GROUPS_LIMIT, type ProcStatus, parseStatus, TooManyGroups } from '../../kernel/procfs/status.ts'
import { HeldMemory } from '../../kernel/remote-memory.ts'
import { pin } from './find-task.ts'
import type { ProcAccess } from './proc-access.ts'
import { readProcText } from './same-as-init.ts'
import { SleepState } from './sleep-state.ts'

const OFFSETS_LIMIT = 256

/**
 * Opens and reads what `/proc/TID` shows of the thread that made a call. The kernel cannot reuse TID while the call
 * waits, so what was opened by that number belongs to the caller if the call still waits after the opening. `using`
 * closes it all.
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

  /** The caller's `/proc/TID`, opened at its first use, since most calls do not need it. */
  get task(): Fd {
    if (!this.#taskDir) {
      const { proc, names } = this.#context
      const open = (): Fd => openat(proc.raw, names.of(this.tid, '.'), O_PATH | O_DIRECTORY)
      this.#taskDir = orContinue('gone', () => this.own(open()))
      this.mustWait()
    }
    return this.#taskDir
  }

  /** The `/proc/TGID` of the caller's process. */
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

  /** Every call reads the status, and creating a closure for `orContinue` would cost more than what it runs. */
  #readStatus(): ProcStatus {
    const { proc, names, status, callerName } = this.#context
    try {
      const file = openat(proc.raw, names.of(this.tid, 'status'), O_RDONLY)
      try {
        const length = read(file, status)
        callerName.takeStatus(status, length)
        return parseStatus(status, length)
      } finally {
        file[Symbol.dispose]()
      }
    } catch (error) {
      if (error instanceof TooManyGroups) throw new ContinueError('tooManyGroups', GROUPS_LIMIT)
      throw asContinue('gone', error)
    }
  }

  /** The inode number of the caller's user namespace. */
  get userns(): number {
    const { proc, names } = this.#context
    try {
      return namespaceInode(proc.raw, names.of(this.tid, 'ns/user'))
    } catch (error) {
      throw asContinue('gone', error)
    }
  }

  /** Reads `/proc/TID/cgroup` into a buffer. @returns the number of bytes */
  cgroups(into: Uint8Array): number {
    const { identity, proc, names } = this.#context
    try {
      const file = identity.looking(() => openat(proc.raw, names.of(this.tid, 'cgroup'), O_RDONLY))
      try {
        // The kernel returns the whole file at once (linux/fs/proc/base.c proc_single_show()).
        return read(file, into)
      } finally {
        file[Symbol.dispose]()
      }
    } catch (error) {
      throw asContinue('gone', error)
    }
  }

  /**
   * Returns by how many milliseconds the caller's boot clock is ahead of that of another time namespace, which nearly
   * always is the caller's own; 0 too if that cannot be told.
   */
  bootClockAhead({ inode, aheadMs }: TimeNamespace): number {
    const { proc, names } = this.#context
    try {
      if (namespaceInode(proc.raw, names.of(this.tid, 'ns/time')) === inode) return 0
      const nameOf = (entry: string): Uint8Array => names.of(this.tid, entry)
      const own = timeNamespaceOf(proc.raw, nameOf, (entry) => readProcText(this.task, entry, OFFSETS_LIMIT))
      return own === undefined ? 0 : own.aheadMs - aheadMs
    } catch (error) {
      throw asContinue('gone', error)
    }
  }

  get sleep(): SleepState {
    const { proc, names, identity } = this.#context
    return new SleepState({ tid: this.tid, proc, names, identity })
  }

  /**
   * Opens the caller's memory, which then stays the same address space even if the caller calls execve(2). Before
   * anything is written, the callers of this method must check that the call still waits.
   */
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

  /**
   * Opens the directory from which a relative path starts. `/proc/TID/fd` is closed even to a root without
   * CAP_DAC_READ_SEARCH.
   */
  base(dirfd: number): Fd {
    if (dirfd === AT_FDCWD) return this.link('cwd')
    const { identity, proc, names } = this.#context
    const open = (): Fd => this.own(openat(proc.raw, names.of(this.tid, `fd/${dirfd}`), O_PATH))
    return orContinue('pathNotResolved', () => identity.searching(open))
  }

  /**
   * Rejects an O_PATH descriptor, for which most calls fail with EBADF. Its entry in procfs has no permission bits;
   * apart from access mode 3, which no program uses, no other descriptor's entry lacks them (linux/fs/proc/fd.c
   * tid_fd_update_inode()).
   *
   * @throws {ContinueError}
   */
  mustBeOpen(fd: number): void {
    const { identity, proc, names } = this.#context
    const look = (): number => linkMode(proc, names.of(this.tid, `fd/${fd}`))
    const mode = orContinue('pathNotResolved', () => identity.searching(look))
    if ((mode & 0o700) === 0) throw new ContinueError('pathDescriptor')
  }

  /** Requires that the call still waits. @throws {ContinueError} */
  mustWait(): void {
    if (!this.waits()) throw new ContinueError('gone')
  }

  /**
   * Holds the task by a pidfd, for work during which a signal may cancel the call, even repeatedly.
   *
   * @returns a check that the task has not ended meanwhile, so that its number was its own
   * @throws {ContinueError}
   */
  hold(): () => void {
    const pidfd = orContinue('gone', () => this.own(pin(this.task, '.')))
    this.mustWait()
    return () => {
      if (!pidfdIsAlive(pidfd)) throw new ContinueError('gone')
    }
  }

  /** Closes `fd` when the call is over. */
  own<T extends Disposable>(fd: T): T {
    this.#opened.push(fd)
    return fd
  }

  [Symbol.dispose](): void {
    for (const fd of this.#opened) fd[Symbol.dispose]()
  }
}

/**
 * Runs `look`, and leaves the call to the kernel if it fails: a failure to inspect the caller is not an errno of its
 * call.
 */
export function orContinue<T>(code: 'gone' | 'unreadable' | 'pathNotResolved', look: () => T): T {
  try {
    return look()
  } catch (error) {
    throw asContinue(code, error)
  }
}

/** Errors that concern the engine, not the caller. */
const OURS: ReadonlySet<number> = new Set([errnos.EMFILE, errnos.ENFILE, errnos.ENOMEM])

/** Converts an error as `orContinue` does, for code that avoids a closure. */
export function asContinue(code: Parameters<typeof orContinue>[0], error: unknown): unknown {
  if (error instanceof SyscallError) return new ContinueError(OURS.has(error.errno) ? 'lookFailed' : code, error.errno)
  return error instanceof RangeError ? new ContinueError(code) : error
}
