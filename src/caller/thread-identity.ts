import type { HostId } from '../abi/brand.ts'
import { type Cap, capMask } from '../abi/capability.ts'
import { errnos } from '../abi/errno.ts'
import {
  CapabilitySet,
  getCapabilities,
  groupCount,
  setEffectiveUid,
  setFsgid,
  setFsuid,
  setGroups,
  setRealUid,
} from '../kernel/credentials.ts'
import { SyscallError } from '../kernel/error.ts'
import { chrootTo, umask } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { CLONE_FS, CLONE_NEWNS, setns, unshare } from '../kernel/namespaces.ts'
import { SECBIT_NO_SETUID_FIXUP, setSecurebits } from '../kernel/process.ts'
import type { Status } from './status.ts'

/** A thread that could not get home: it may stand in a container with somebody's ids, and must never be used again. */
export class LostThread extends Error {
  override readonly name = 'LostThread'
}

const ROOT = 0 as HostId
/** The last one before -1, which is none: no user has it, so none may signal a thread that has it for a moment. */
const NOBODY_AT_ALL = 0xffff_fffe as HostId
const NO_GROUPS = new Uint32Array(0)

/** Effective at rest: enough to look at a caller and to become it. Nothing that overrides permissions of files. */
const REST: readonly Cap[] = ['SETUID', 'SETGID', 'SYS_CHROOT', 'SYS_PTRACE']
const NONE: readonly Cap[] = []
const LOOK: readonly Cap[] = ['SYS_PTRACE']
const CHANGE_USER: readonly Cap[] = ['SETUID']
const MOUNT: readonly Cap[] = ['SYS_ADMIN', 'SYS_CHROOT']
/** While entering: the caller's root directory may be closed to us. */
const ENTER: readonly Cap[] = [...REST, 'DAC_READ_SEARCH']
/** While it takes the priority of who serves again. */
const RAISE: readonly Cap[] = ['SYS_NICE']
/** While opening the memory of a caller, which is its own file. */
const REACH: readonly Cap[] = [...REST, 'DAC_OVERRIDE']

function countAs(uid: HostId): void {
  if (!setRealUid(uid)) throw new LostThread('Cannot change the real user id')
}

/** In the namespace of a user, whose daemon it is then, there is no such id: it stays that user, and has no more rights. */
function becomeNobody(): void {
  try {
    setEffectiveUid(NOBODY_AT_ALL)
  } catch (error) {
    if (!(error instanceof SyscallError) || error.errno !== errnos.EINVAL) throw error
  }
}

/**
 * Who the calling thread is. At home it is root of the host without any capability over files; `enter` makes ids, groups
 * and umask those of a caller and takes every capability away; `home` brings it back. All of it is
 * of this thread alone, and each change is read back.
 */
export class ThreadIdentity {
  readonly #hostRoot: Handle
  readonly #rest: CapabilitySet
  readonly #sets = new Map<readonly Cap[], CapabilitySet>()
  readonly #permitted: bigint
  /** Our own mount namespace. */
  readonly #mounts: Handle
  #inside = false
  #abroad = false
  /** Its root directory may be another one than the host's. */
  #elsewhere = false
  #grouped = false
  #effective: readonly Cap[] = REST

  /**
   * Settles the calling thread at home, for good.
   *
   * @param hostRoot a handle of the host's root directory
   * @param mounts our mount namespace
   * @throws {Error} if the process lacks a capability that it needs
   */
  constructor(hostRoot: Handle, mounts: Handle) {
    this.#hostRoot = hostRoot
    this.#mounts = mounts
    this.#permitted = getCapabilities().permitted
    this.#rest = this.#set(REST)
    this.#set(ENTER)
    unshare(CLONE_FS)
    setSecurebits(SECBIT_NO_SETUID_FIXUP)
    // Whose effective user has made a user namespace has all rights in it, whatever its capabilities: also those to look at its
    // tasks, which the caller may not have. (linux/security/commoncap.c cap_capable())
    becomeNobody()
    this.#grouped = true
    this.#elsewhere = true
    this.#home()
  }

  get inside(): boolean {
    return this.#inside
  }

  /**
   * Becomes the caller, with no capability at all. The root directory stays the host's until `stand`: inside, only handles are
   * used, and paths below one of them.
   *
   * @throws {LostThread} if what was set does not read back
   */
  enter({ uids, gids, groups, umask: mask }: Status): void {
    this.#inside = true
    if (this.#effective !== REST) this.with(REST)
    umask(mask)
    if (groups.length > 0) this.#setGroups(groups)
    const became = setFsgid(gids[3]) && setFsuid(uids[3])
    this.with(NONE)
    if (!became) throw new LostThread('Cannot become the caller: ids do not read back')
  }

  /** Makes `root` the root and working directory, inside. */
  stand(root: Handle): void {
    this.#elsewhere = true
    this.with(ENTER)
    chrootTo(root)
    this.with(NONE)
  }

  /** Makes the effective set exactly `caps`. Pass the same array each time: its set is kept. */
  with(caps: readonly Cap[]): void {
    const set = this.#set(caps)
    this.#effective = caps
    set.enter()
    if (!set.entered) throw new LostThread('Cannot set capabilities: they do not read back')
  }

  /** Runs `action` at home with the right to search directories that are closed to root without capabilities. */
  searching<T>(action: () => T): T {
    return this.#atHome(ENTER, action)
  }

  /** Runs `action` at home with the right to open the memory of a task, a file that only its user may write. */
  reaching<T>(action: () => T): T {
    return this.#atHome(REACH, action)
  }

  /** Runs `action` at home with the right to raise the priority of this thread, and no other. */
  raising<T>(action: () => T): T {
    return this.#atHome(RAISE, action)
  }

  #atHome<T>(caps: readonly Cap[], action: () => T): T {
    this.with(caps)
    try {
      return action()
    } finally {
      this.with(REST)
    }
  }

  /**
   * Runs `action` inside with the right to look at the caller, as at home.
   */
  looking<T>(action: () => T, caps = LOOK): T {
    if (!this.#inside && caps === LOOK) return action()
    this.with(caps)
    try {
      return action()
    } finally {
      this.with(NONE)
    }
  }

  /** Runs `action` inside with the file system user of the host's root, which owns nothing in a container. */
  asHostRoot<T>(caller: HostId, action: () => T): T {
    this.with(CHANGE_USER)
    if (!setFsuid(ROOT)) throw new LostThread('Cannot leave the ids of the caller')
    const result = action()
    if (!setFsuid(caller)) throw new LostThread('Cannot become the caller again: its user id does not read back')
    this.with(NONE)
    return result
  }

  /**
   * Runs `action` with a real user id that nobody has: the kernel counts the memory of pipes by it. A container can make a
   * pipe that it got larger, and what that takes would be missing for all other processes of the host's root that are
   * without capabilities. Only the real one: the file system's still owns what is made.
   *
   * @see linux/fs/pipe.c alloc_pipe_info(), too_many_pipe_buffers_soft()
   */
  countedApart<T>(action: () => T): T {
    this.with(CHANGE_USER)
    countAs(NOBODY_AT_ALL)
    try {
      return action()
    } finally {
      countAs(ROOT)
    }
  }

  /**
   * Runs `action` inside another mount namespace, with the right to mount there. Its root directory is that namespace's then:
   * the action uses handles only.
   */
  inMounts<T>(namespace: Handle, action: () => T): T {
    this.with(MOUNT)
    this.#elsewhere = true
    setns(namespace, CLONE_NEWNS)
    this.#abroad = true
    try {
      return action()
    } finally {
      setns(this.#mounts, CLONE_NEWNS)
      this.#abroad = false
    }
  }

  /** @throws {LostThread} if the thread cannot get home */
  home(): void {
    if (!this.#inside) {
      if (this.#effective !== REST) this.with(REST)
      return
    }
    if (this.#abroad) throw new LostThread('Cannot get home: it is in the mount namespace of a container')
    try {
      this.#home()
    } catch (error) {
      throw error instanceof LostThread ? error : new LostThread(`Cannot get home: ${(error as Error).message}`)
    }
    this.#inside = false
  }

  #home(): void {
    this.#effective = REST
    this.#rest.enter()
    const ids = setFsuid(ROOT) && setFsgid(ROOT)
    if (this.#grouped) this.#setGroups(NO_GROUPS)
    this.#grouped = false
    if (this.#elsewhere) chrootTo(this.#hostRoot)
    this.#elsewhere = false
    if (!ids || !this.#rest.entered) throw new LostThread('Cannot get home: ids do not read back')
  }

  #setGroups(groups: Uint32Array): void {
    this.#grouped = true
    setGroups(groups)
    if (groupCount() !== groups.length) throw new LostThread('Cannot set groups: they do not read back')
  }

  #set(caps: readonly Cap[]): CapabilitySet {
    let set = this.#sets.get(caps)
    if (!set) {
      const effective = capMask(...caps)
      const missing = caps.filter((cap) => (this.#permitted & capMask(cap)) === 0n)
      if (missing.length > 0)
        throw new Error(`Cannot serve: CAP_${missing.join(', CAP_')} is missing from our own capabilities`)
      set = new CapabilitySet({ effective, permitted: this.#permitted, inheritable: 0n })
      this.#sets.set(caps, set)
    }
    return set
  }
}
