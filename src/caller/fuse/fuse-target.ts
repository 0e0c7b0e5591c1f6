import type { PathBytes } from '../../abi/brand.ts'
import { AT_FDCWD, O_DIRECTORY, O_NOFOLLOW, O_PATH } from '../../abi/fcntl.ts'
import { steps } from '../../calls/steps.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { ignoring, isErrno } from '../../kernel/error.ts'
import { mountNumber } from '../../kernel/fdinfo.ts'
import { changeDirectory, openat } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { cstring } from '../../kernel/libc.ts'
import { detachAt } from '../../kernel/mount.ts'
import { mountSetattr } from '../../kernel/mount-attr.ts'
import { mountinfoEntry } from '../mounts/mountinfo-entry.ts'
import type { FuseCaller } from './fuse-caller.ts'

/**
 * Where a FUSE program shall mount. It finds its way there by itself, as the caller; here is only looked what came of it. What
 * is there is never asked: its server may not answer.
 */
export class FuseTarget {
  readonly #caller: FuseCaller
  readonly #path: PathBytes
  readonly #namespace: Handle
  /** The number of the mount that was there before. */
  readonly before: number
  /** How it is found when the caller is gone. */
  readonly #parent: { readonly dir: Handle; readonly name: PathBytes }
  #mounted: Handle | undefined

  /** @throws {ContinueError} if the path does not resolve for the caller */
  constructor(caller: FuseCaller, path: PathBytes, namespace: Handle, before?: number) {
    this.#caller = caller
    this.#path = path
    this.#namespace = namespace
    this.#parent = caller.caller.parent(AT_FDCWD, path)
    this.before = before ?? this.#number(this.#look())
  }

  /** Is a FUSE file system mounted there by now, which was not before? */
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
   * Sets attributes of what is mounted: those that the program may have dropped.
   *
   * @returns whether it still stood there
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

  /** Takes away what was mounted there meanwhile. */
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

  /** By the list of mounts of the init, whose mount namespace is the caller's: that is gone when it is. */
  #isNew(found: Handle): boolean {
    const number = this.#number(found)
    if (number === this.before) return false
    const { proc, container } = this.#caller
    using init = openat(proc.raw, cstring(`${container.initTid}`), O_PATH | O_DIRECTORY)
    const mount = mountinfoEntry(init, number)
    return mount !== undefined && /^fuse(\.|$)/.test(mount.type)
  }
}
