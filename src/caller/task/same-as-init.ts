import { O_DIRECTORY, O_PATH, O_RDONLY } from '../../abi/fcntl.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { orUndefined } from '../../kernel/error.ts'
import { Fd, type Handle } from '../../kernel/fd.ts'
import { mountId, namespaceInode, openat, read, statx } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { pidfdIsAlive } from '../../kernel/pidfd.ts'
import type { Container } from '../identity/container.ts'

/** A program that a runtime starts in a container enters these namespaces of the container's init. */
const NAMESPACES = ['user', 'mnt', 'pid', 'net', 'ipc', 'uts', 'cgroup', 'time'].map((name) => cstring(`ns/${name}`))
/** A mount namespace has 100,000 mounts at most, unless fs.mount-max says otherwise: their lines fit. */
const TEXT_LIMIT = 32 * 1024 * 1024
/** The kernel fills it with whole lines at each read. There is one for each thread. */
const piece = Buffer.alloc(32 * 1024)

/**
 * Requires that the caller is where the runtime would start a program: in the namespaces, below the root directory
 * and under the security label of the container's init.
 *
 * @param task the caller's `/proc/TID`
 * @param proc the host's procfs
 * @throws {ContinueError} if it is not
 */
export function requireSameAsInit(task: Handle, { handles, initTid }: Container, proc: Handle): void {
  if (!handles) throw new ContinueError('unknownContainer')
  using init = openat(proc.raw, cstring(`${initTid}`), O_PATH | O_DIRECTORY)
  if (!pidfdIsAlive(new Fd(handles.init))) throw new ContinueError('gone')
  const same =
    NAMESPACES.every((name) => inodeOf(task, name) === inodeOf(init, name)) &&
    rootOf(task) === rootOf(init) &&
    labelOf(task) === labelOf(init)
  if (!same) throw new ContinueError('fuseElsewhere')
}

/** Returns the inode number of a namespace; undefined if this kernel does not have this type of namespace. */
const inodeOf = (task: Handle, name: Uint8Array): number | undefined =>
  orUndefined('any', () => namespaceInode(task.raw, name))

/** Returns a string that identifies a directory and the mount on which it lies. */
export function directoryId(directory: Handle): string {
  const { dev, ino } = statx(directory.raw)
  return `${dev}:${ino}:${mountId(directory)}`
}

function rootOf(task: Handle): string {
  using root = openat(task.raw, cstring('root'), O_PATH | O_DIRECTORY)
  return directoryId(root)
}

/** Returns the label of AppArmor or SELinux; undefined if the kernel has neither. */
const labelOf = (task: Handle): string | undefined => orUndefined('any', () => readProcText(task, 'attr/current'))

/**
 * Reads a file of a task in procfs.
 *
 * @param task the task's `/proc/TID`
 * @param limit the maximum number of bytes; the rest is not read
 */
export function readProcText(task: Handle, name: string, limit = TEXT_LIMIT): string {
  let text = ''
  for (const part of procTexts(task, name, limit)) text += part
  return text
}

/**
 * Returns the first line of a file of a task in procfs that begins so, without what follows it. It never has more of
 * the file than a piece and a line: a container can make a list of its mounts as long as it likes.
 *
 * @param task the task's `/proc/TID`
 */
export function procLine(task: Handle, name: string, start: string): string | undefined {
  let rest = ''
  for (const part of procTexts(task, name, TEXT_LIMIT)) {
    const text = `\n${rest}${part}`
    const last = text.lastIndexOf('\n')
    const at = text.indexOf(`\n${start}`)
    if (at >= 0 && at < last) return text.slice(at + 1, text.indexOf('\n', at + 1))
    rest = text.slice(last + 1)
  }
  return undefined
}

function* procTexts(task: Handle, name: string, limit: number): Generator<string> {
  using file = openat(task.raw, cstring(name), O_RDONLY)
  for (let done = 0; done < limit; ) {
    const length = read(file, piece.subarray(0, limit - done))
    if (length === 0) return
    yield piece.toString('latin1', 0, length)
    done += length
  }
}
