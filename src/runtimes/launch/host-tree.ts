import { fstatSync, type Stats } from 'node:fs'
import { AT_FDCWD, O_PATH, RESOLVE_NO_SYMLINKS } from '../../abi/fcntl.ts'
import { MS_PRIVATE } from '../../abi/mount.ts'
import { isErrno } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { openat, openat2 } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { cstring } from '../../kernel/libc.ts'
import { copyTree, moveMount } from '../../kernel/mount.ts'
import { mountSetattr } from '../../kernel/mount-attr.ts'

const openStraight = (path: string): Fd => openat2(AT_FDCWD, cstring(path), O_PATH, RESOLVE_NO_SYMLINKS)

/**
 * A directory or file of the host that the container gets. It is opened once, so that what is checked is what is
 * mounted, whoever changes the path meanwhile.
 */
export class HostTree implements Handle {
  readonly path: string
  /** Whether what is mounted below it belongs to it. */
  readonly recursive: boolean
  /** Whether no symbolic link is on the path: the owner of a link chooses where it leads. */
  readonly isStraight: boolean
  #file: Fd

  /** @throws {SyscallError} ENOENT, ENOTDIR, ELOOP if there is nothing at the path */
  constructor(path: string, recursive: boolean) {
    this.path = path
    this.recursive = recursive
    try {
      this.#file = openStraight(path)
      this.isStraight = true
    } catch (error) {
      if (!isErrno(error, 'ELOOP')) throw error
      this.#file = openat(AT_FDCWD, cstring(path), O_PATH)
      this.isStraight = false
    }
  }

  get raw(): number {
    return this.#file.raw
  }

  stat(): Stats {
    return fstatSync(this.raw)
  }

  /**
   * Becomes a detached copy of the mount, which is private: the container does not get what the host mounts there
   * later. Precondition: the thread is in the mount namespace in which the tree was opened.
   */
  detach(): void {
    using file = this.#file
    this.#file = copyTree(file, this.recursive)
    mountSetattr(this, { propagation: MS_PRIVATE })
  }

  /**
   * Mounts the copy with its attributes in force before it is visible, and closes it. Precondition: `detach` has been
   * called.
   *
   * @param set MOUNT_ATTR_*
   * @param userns for an idmapped mount, through which our own ids can make nothing
   */
  mountOn(target: Handle, { set = 0n, userns }: { readonly set?: bigint; readonly userns?: Handle | undefined }): void {
    mountSetattr(this, { set, ...(userns && { userns }) })
    moveMount(this, target)
    this[Symbol.dispose]()
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]()
  }
}

/** Opens what is at `path`; returns undefined if there is nothing. */
export function openHostTree(path: string, recursive: boolean): HostTree | undefined {
  try {
    return new HostTree(path, recursive)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG')) return undefined
    throw error
  }
}
