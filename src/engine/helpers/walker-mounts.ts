import { chmodSync, copyFileSync, mkdirSync } from 'node:fs'
import { AT_FDCWD } from '../../abi/fcntl.ts'
import type { Fd } from '../../kernel/fd.ts'
import { changeDirectory, chrootTo, O_DIRECTORY, O_PATH, O_RDONLY, openat } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { mount, moveMount, openTree } from '../../kernel/mount.ts'
import { CLONE_NEWNS, setns } from '../../kernel/namespaces.ts'
import { exitGroup } from '../../kernel/process.ts'
import { enterOwnMounts } from '../../processes/own-mounts.ts'
import { executed, programFiles } from '../../processes/program-files.ts'
import type { Exposed, ProgramBind } from './expose-programs.ts'

/** Where the copy of the loader lies, in the mount namespace of a walker alone. */
const PLACE = '/run/intercede/loader'
const LOADER = /\/ld-(linux|musl)[^/]*$/

/**
 * Makes the mount namespace of a walker, which has of the host's mounts only what it needs.
 *
 * To the kernel a process of a container's user namespace belongs to the container's root, who with CAP_SYS_PTRACE and a sight
 * of the host's procfs could follow its links into the host's root directory and write to its memory; unless it executes what it
 * may not read, then only who may trace everybody can. As read counts the loader of the program too: it sees a copy of that which
 * everybody may execute only.
 *
 * @param programs what is executed there besides our own program
 * @returns undefined for the daemon of a user, which may not make the place
 * @see linux/fs/exec.c would_dump(), linux/fs/binfmt_elf.c load_elf_binary()
 */
export function walkerMounts({ binds }: Exposed, programs: readonly string[]): Fd | undefined {
  const loader = executed().find((path) => LOADER.test(path))
  if (loader === undefined) throw new Error('Cannot start a walker: the loader of our own program is not known')
  if (!makePlaces(binds)) return undefined
  const needed = ['/proc', PLACE, ...binds.flat(), ...programFiles(programs)]
  return abroad(() => {
    enterOwnMounts(needed)
    hide(loader)
    for (const [what, place] of binds) bind(what, place)
    return openat(AT_FDCWD, cstring('/proc/thread-self/ns/mnt'), O_RDONLY)
  })
}

/** On the host, where they stay empty. */
function makePlaces(binds: readonly ProgramBind[]): boolean {
  try {
    for (const place of [PLACE, ...binds.map(([, each]) => each)]) mkdirSync(place, { recursive: true, mode: 0o755 })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES' && binds.length === 0) return false
    throw error
  }
}

/** Runs `action`, which may change the mount namespace of the calling thread, and brings that home. */
function abroad<T>(action: () => T): T {
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
      // Nothing that this thread starts or opens would be of the host any more.
      exitGroup(1)
    }
  }
}

/** On a tmpfs, since /run may be mounted with noexec. */
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
