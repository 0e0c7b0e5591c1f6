import { chmodSync, copyFileSync, mkdirSync, statSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY } from '../../abi/fcntl.ts'
import { CLONE_NEWNS } from '../../abi/process.ts'
import { S_IXOTH } from '../../abi/stat.ts'
import type { Fd } from '../../kernel/fd.ts'
import { changeDirectory, chrootTo, openat } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { mount, moveMount, openTree } from '../../kernel/mount.ts'
import { exitGroup, setns } from '../../kernel/process.ts'
import { enterOwnMounts } from '../../processes/own-mounts.ts'
import { executed, programFiles } from '../../processes/program-files.ts'

/**
 * Here a process in a container's user namespace sees programs that otherwise only we can reach, each in its own
 * directory.
 */
const SHOWN_AT = '/run/intercede/program'

/** A directory `what`, and the existing directory `place` at which it must be mounted as well. */
type ProgramBind = readonly [what: string, place: string]

/** How a user who can search only directories that are open to everybody can start the programs. */
interface Exposed {
  /** The needed mounts; empty if all programs can be reached at their own paths. */
  readonly binds: readonly ProgramBind[]
  /** The paths of the programs once `binds` are mounted, in the order of the programs. */
  readonly paths: readonly string[]
}

const everybodySearches = (directory: string): boolean => (statSync(directory).mode & S_IXOTH) !== 0

/**
 * Returns the mounts that make programs reachable for any user, in a separate mount namespace. Our checkout may be
 * below /root and Node in a home directory, and Node can load a program by its path only.
 *
 * @param searches whether any user may search a directory
 */
export function exposePrograms(
  programs: readonly string[],
  searches: (directory: string) => boolean = everybodySearches,
): Exposed {
  const shown = programs.map((program, index) => show(program, join(SHOWN_AT, String(index)), searches))
  return { binds: shown.flatMap(({ bind }) => (bind ? [bind] : [])), paths: shown.map(({ path }) => path) }
}

interface Shown {
  readonly path: string
  readonly bind?: ProgramBind
}

function show(program: string, place: string, searches: (directory: string) => boolean): Shown {
  const closed = ancestors(program).find((directory) => !searches(directory))
  if (closed === undefined) return { path: program }
  const [next = '', ...rest] = relative(closed, program).split(sep)
  // The whole directory is mounted, because the program may need the files beside it.
  return rest.length === 0
    ? { path: join(place, next), bind: [closed, place] }
    : { path: join(place, ...rest), bind: [join(closed, next), place] }
}

/** Returns the directories above `path`, the innermost first. */
function ancestors(path: string): string[] {
  const above = dirname(path)
  return above === path ? [] : [above, ...ancestors(above)]
}

/** The directory with the copy of the loader; the copy exists only in the mount namespaces of walkers. */
const PLACE = '/run/intercede/loader'
const LOADER = /\/ld-(linux|musl)[^/]*$/

/**
 * Makes the mount namespace of a walker, which has only the mounts of the host that the walker needs.
 *
 * A walker is in the container's user namespace, so the container's root, who has CAP_SYS_PTRACE there, could follow
 * the walker's links in the host's procfs to the host's root directory, and write to the walker's memory. The kernel
 * forbids both if the walker executes a file that it may not read: such a process is not dumpable. The kernel checks
 * the loader of the program as well, so the walker sees a copy of the loader that everybody may execute and only root
 * may read.
 *
 * @param programs the programs that are executed there besides our own
 * @returns undefined in a user's own daemon, which may not make the directory
 * @see linux/fs/exec.c would_dump(), linux/fs/binfmt_elf.c load_elf_binary()
 */
export function walkerMounts({ binds }: Exposed, programs: readonly string[]): Fd | undefined {
  const loader = executed().find((path) => LOADER.test(path))
  if (loader === undefined) throw new Error('Cannot start a walker: the loader of our own program is not known')
  if (!makePlaces(binds)) return undefined
  const needed = ['/proc', PLACE, ...binds.flat(), ...programFiles(programs)]
  return restoringMounts(() => {
    enterOwnMounts(needed)
    hide(loader)
    for (const [what, place] of binds) bind(what, place)
    return openat(AT_FDCWD, cstring('/proc/thread-self/ns/mnt'), O_RDONLY)
  })
}

/** Makes the mount points on the host, where they stay empty. */
function makePlaces(binds: readonly ProgramBind[]): boolean {
  try {
    for (const place of [PLACE, ...binds.map(([, each]) => each)]) mkdirSync(place, { recursive: true, mode: 0o755 })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES' && binds.length === 0) return false
    throw error
  }
}

/** Runs `action`, which may change this thread's mount namespace; then restores namespace, root and directory. */
function restoringMounts<T>(action: () => T): T {
  using mounts = openat(AT_FDCWD, cstring('/proc/thread-self/ns/mnt'), O_RDONLY)
  using root = openat(AT_FDCWD, cstring('/'), O_PATH | O_DIRECTORY)
  using directory = openat(AT_FDCWD, cstring('.'), O_PATH | O_DIRECTORY)
  try {
    return action()
  } finally {
    try {
      setns(mounts, CLONE_NEWNS)
      chrootTo(root)
      changeDirectory(directory)
    } catch {
      // Whatever this thread starts or opens from now on would be in the walker's mount namespace.
      exitGroup(1)
    }
  }
}

/** Mounts an unreadable copy of the loader over the loader; the copy is on a tmpfs, since /run may be noexec. */
function hide(loader: string): void {
  const copy = `${PLACE}/loader`
  mount('tmpfs', PLACE, 0n, 'mode=0755,size=4m')
  copyFileSync(loader, copy)
  chmodSync(copy, 0o711)
  bind(copy, loader)
}

function bind(what: string, place: string): void {
  using tree = openTree(what)
  using target = openat(AT_FDCWD, cstring(place), O_PATH)
  moveMount(tree, target)
}
