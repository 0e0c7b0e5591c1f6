import { errno } from '../../abi/errno.ts'
import { O_NOFOLLOW, O_PATH, RESOLVE_NO_XDEV } from '../../abi/fcntl.ts'
import { isErrno, SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { openat2 } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { type Numbers, numbersIn, startIn } from '../../kernel/process.ts'

/** Returns a name as NUL-terminated bytes; strings hold the bytes of names as Latin-1. */
export const terminated = (name: string): Uint8Array => Buffer.from(`${name}\0`, 'latin1')

export const notFollowed = (): SyscallError => new SyscallError('walk', errno('ELOOP'))

/**
 * Returns the error after which the walker is asked, the same (EACCES) as of a file system that admits only the
 * container.
 */
export const forWalker = (): SyscallError => new SyscallError('walk', errno('EACCES'))

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
export const numbersOf = (proc: Handle, task: Handle): readonly Numbers[] => readOwn(proc, task, 'status', numbersIn)

/**
 * Tells whether two directories are of the same task, though the same number may belong to different tasks in
 * different pid namespaces. It compares all numbers and the start time, which many tasks share within one tick of the
 * clock.
 *
 * @param depth how many pid namespaces lie between our procfs and the procfs of `seen`
 */
export function isSameTask(proc: Handle, seen: Handle, task: Handle, depth: number): boolean {
  const expected = numbersOf(proc, task).slice(depth)
  return (
    expected.length > 0 &&
    String(expected) === String(numbersOf(proc, seen)) &&
    readOwn(proc, seen, 'stat', startIn) === readOwn(proc, task, 'stat', startIn)
  )
}
