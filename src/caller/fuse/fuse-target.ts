import type { PathBytes } from '../../abi/brand.ts'
import { AT_FDCWD, O_DIRECTORY, O_NOFOLLOW, O_PATH } from '../../abi/fcntl.ts'
import { steps } from '../../calls/steps.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { ignoring, isErrno } from '../../kernel/error.ts'
import type { Handle } from '../../kernel/fd.ts'
import { changeDirectory, mountNumber, openat } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { detachAt, mountSetattr } from '../../kernel/mount.ts'
import { mountinfoEntry } from '../mounts/caller-mounts.ts'
import type { FuseCaller } from './fuse-caller.ts'

const SLASH = 0x2f

/** With slashes after it, the kernel would follow a link of this name, from our root directory. */
function withoutSlashes(name: PathBytes): PathBytes {
  let end = name.length - 1
  while (end > 1 && name[end - 1] === SLASH) end--
  return Uint8Array.of(...name.subarray(0, end), 0) as PathBytes
}

/**
 * Observes the path at which a FUSE program shall mount. The program resolves the path by itself, with the caller's
 * rights; this class only looks at the result. It never asks the mounted file system, whose server may not answer.
 */
export class FuseTarget {
  readonly #caller: FuseCaller
  readonly #path: PathBytes
  readonly #namespace: Handle
  /** The number of the mount at the path before the program was started. */
  readonly before: number
  /** The parent directory and name, by which the mount is found again when the caller is gone. */
  readonly #parent: { readonly dir: Handle; readonly name: PathBytes }
  #mounted: Handle | undefined

  /** @throws {ContinueError} if the path does not resolve for the caller */
  constructor(caller: FuseCaller, path: PathBytes, namespace: Handle, before?: number) {
    this.#caller = caller
    this.#path = path
    this.#namespace = namespace
    const { dir, name } = caller.caller.parent(AT_FDCWD, path)
    this.#parent = { dir, name: withoutSlashes(name) }
    this.before = before ?? this.#number(this.#look())
  }

  /** Tells whether a FUSE file system that was not there before is mounted at the path. */
  look(): boolean {
    if (this.#mounted) return true
    try {
      const found = this.#look()
      if (!this.#isNew(found)) return false
      this.#mounted = found
      return true
    } catch (error) {
      if (error instanceof ContinueError) return false
      throw error
    }
  }

  /**
   * Sets mount attributes that the program may have left out.
   *
   * @param attributes MOUNT_ATTR_*
   * @returns whether the mount was still attached
   */
  set(attributes: bigint): boolean {
    const mounted = this.#mounted
    if (!mounted || attributes === 0n) return mounted !== undefined
    try {
      this.#caller.identity.inMounts(this.#namespace, () => mountSetattr(mounted, { set: attributes }, 0))
      return true
    } catch (error) {
      if (isErrno(error, 'EINVAL')) return false
      throw error
    }
  }

  /** Unmounts what the program has mounted at the path meanwhile. */
  detach(): void {
    const { dir, name } = this.#parent
    // The container may have put something else there, or be gone.
    ignoring('any', () => {
      using top = openat(dir.raw, name, O_PATH | O_NOFOLLOW)
      if (!this.#isNew(top)) return
      this.#caller.identity.inMounts(this.#namespace, () => {
        changeDirectory(dir)
        detachAt(name)
      })
    })
  }

  #look(): Handle {
    return this.#caller.caller.object(AT_FDCWD, this.#path, true)
  }

  #number(handle: Handle): number {
    this.#caller.identity.with(steps.look)
    return mountNumber(this.#caller.proc, handle)
  }

  /**
   * Looks in the init's list of mounts: the init is in the caller's mount namespace and still exists when the caller
   * is gone.
   */
  #isNew(found: Handle): boolean {
    const number = this.#number(found)
    if (number === this.before) return false
    const { proc, container } = this.#caller
    using init = openat(proc.raw, cstring(`${container.initTid}`), O_PATH | O_DIRECTORY)
    const mount = mountinfoEntry(init, number)
    return mount !== undefined && /^fuse(\.|$)/.test(mount.type)
  }
}
