import { errno } from '../../abi/errno.ts'
import { O_NOFOLLOW, O_PATH, RESOLVE_NO_XDEV } from '../../abi/fcntl.ts'
import { isErrno, SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { openat2 } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { type Numbers, numbersIn, startIn } from '../../kernel/process.ts'

/** A name is bytes, which text has as Latin-1. */
export const terminated = (name: string): Uint8Array => Buffer.from(`${name}\0`, 'latin1')

export const notFollowed = (): SyscallError => new SyscallError('walk', errno('ELOOP'))

/** As where a file system lets only a process of the container's user namespace in. */
export const forWalker = (): SyscallError => new SyscallError('walk', errno('EACCES'))

/**
 * Opens what the file system itself has under `name`, a path of entries.
 *
 * @throws {SyscallError} ELOOP if a container has mounted something on one of them
 */
export function openOwn(dir: Handle, name: string): Fd {
  try {
    return openat2(dir.raw, terminated(name), O_PATH | O_NOFOLLOW, RESOLVE_NO_XDEV)
  } catch (error) {
    throw isErrno(error, 'EXDEV') ? notFollowed() : error
  }
}

/**
 * Reads a file of a task in a procfs that a container sees. It must be the entry itself, before it is opened for reading: to
 * open another one could take for ever.
 */
function readOwn<T>(proc: Handle, task: Handle, name: string, read: (directory: number, path: Uint8Array) => T): T {
  using entry = openOwn(task, name)
  return read(proc.raw, terminated(`self/fd/${entry.raw}`))
}

/** @param proc our own procfs */
export const numbersOf = (proc: Handle, task: Handle): readonly Numbers[] => readOwn(proc, task, 'status', numbersIn)

/**
 * Tells two tasks apart that have the same number in different pid namespaces: by their other numbers, and by when they started,
 * which many do within one tick of the clock.
 *
 * @param depth how many pid namespaces lie between our procfs and the one in which the first one is seen
 */
export function isSameTask(proc: Handle, seen: Handle, task: Handle, depth: number): boolean {
  const expected = numbersOf(proc, task).slice(depth)
  return (
    expected.length > 0 &&
    String(expected) === String(numbersOf(proc, seen)) &&
    readOwn(proc, seen, 'stat', startIn) === readOwn(proc, task, 'stat', startIn)
  )
}
