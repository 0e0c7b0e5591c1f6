import type { HostId } from '../../abi/brand.ts'
import { capMask } from '../../abi/credentials.ts'
import { CLONE_FS, CLONE_NEWNS, SECBIT_NO_SETUID_FIXUP } from '../../abi/process.ts'
import { capsOf, OWN_SETS, type Phase, permitted, phases, type Step, steps } from '../../calls/steps.ts'
import {
  boundingSet,
  CapabilitySet,
  dropBoundingSet,
  getCapabilities,
  groupCount,
  NOBODY_AT_ALL,
  setEffectiveUid,
  setFsgid,
  setFsuid,
  setGroups,
  setRealUid,
} from '../../kernel/credentials.ts'
import { ignoring } from '../../kernel/error.ts'
import type { Handle } from '../../kernel/fd.ts'
import { chrootTo, umask } from '../../kernel/files.ts'
import { hasNoNewPrivileges, setNoNewPrivileges, setns, setSecurebits, unshare } from '../../kernel/process.ts'
import type { ProcStatus } from '../../kernel/procfs/status.ts'

/**
 * Thrown when a thread cannot return to its resting state. It may still be in a container's namespace or have a
 * caller's ids, so the thread must never be used again.
 */
export class LostThread extends Error {
  override readonly name = 'LostThread'
}

const ROOT = 0 as HostId
const NO_GROUPS = new Uint32Array(0)

/** setresuid(2) also sets the fsuid to the effective uid, which is nobody's. */
function countAs(uid: HostId): void {
  if (!setRealUid(uid) || !setFsuid(ROOT)) throw new LostThread('Cannot change the real user id')
}

/**
 * Takes an effective uid that owns no user namespace. A rootless daemon runs in a user namespace that does not map
 * this uid (EINVAL): there the thread keeps the user's own uid, which gives it no more rights.
 */
function becomeNobody(): void {
  ignoring(['EINVAL'], () => setEffectiveUid(NOBODY_AT_ALL))
}

/**
 * Changes and verifies the credentials of the calling thread. At home the thread is root of the host without any
 * capability over files. `enter` gives it the ids, groups and umask of a caller and takes every capability away;
 * `home` undoes this. All of these are attributes of this thread alone, and each change is read back.
 *
 * The phases and steps of calls/steps.ts declare which capabilities may be in effect at which time. The permitted set
 * holds no other capability, and the thread cannot gain one: its bounding set is empty and no_new_privs is set.
 *
 * Invariant: all methods are called by the thread that made the object.
 */
export class ThreadIdentity {
  readonly #hostRoot: Handle
  readonly #rest: CapabilitySet
  /**
   * Capability sets by step and the caller's own capabilities that are added to it; each is prepared at its first
   * use.
   */
  readonly #sets: (CapabilitySet | undefined)[]
  readonly #permitted: bigint
  /** Our own mount namespace. */
  readonly #mounts: Handle
  #inside = false
  #abroad = false
  /** True if the thread's root directory may differ from the host's. */
  #elsewhere = false
  #grouped = false
  #phase: Phase = phases.resting
  #step: Step = steps.rest
  /** The capability set that is in effect, and was read back. */
  #set: CapabilitySet | undefined

  /**
   * Puts the calling thread into its resting state and gives up irrevocably what it never needs.
   *
   * @param hostRoot a handle of the host's root directory
   * @param mounts our mount namespace
   * @throws {Error} if the process lacks a capability that it needs
   */
  constructor(hostRoot: Handle, mounts: Handle) {
    this.#hostRoot = hostRoot
    this.#mounts = mounts
    this.#permitted = getCapabilities().permitted & capMask(...permitted)
    this.#sets = new Array(Object.keys(steps).length * OWN_SETS).fill(undefined)
    this.#rest = this.#prepare(steps.rest, 0)
    this.#prepare(steps.stand, 0)
    unshare(CLONE_FS)
    setSecurebits(SECBIT_NO_SETUID_FIXUP)
    // A task whose effective uid owns a user namespace has all capabilities in it, so as uid 0 this thread could
    // inspect tasks there that the caller may not inspect (linux/security/commoncap.c cap_capable()).
    becomeNobody()
    dropBoundingSet()
    setNoNewPrivileges()
    this.#grouped = true
    this.#elsewhere = true
    this.#home()
    if (getCapabilities().permitted !== this.#permitted || boundingSet() !== 0n || !hasNoNewPrivileges())
      throw new LostThread('Cannot give capabilities up: they are there still')
  }

  /** Tells whether this process has the capabilities of a step, so that the thread may take it. */
  permits({ caps }: Step): boolean {
    return (capMask(...caps) & ~this.#permitted) === 0n
  }

  get inside(): boolean {
    return this.#inside
  }

  /**
   * Becomes the caller, with no capability at all. The root directory stays the host's until `stand` is called; until
   * then the thread uses only handles, and paths relative to them.
   *
   * @throws {LostThread} if what was set does not read back
   */
  enter({ uids, gids, groups, umask: mask }: ProcStatus): void {
    this.#inside = true
    if (this.#step !== steps.rest) this.#take(steps.rest)
    umask(mask)
    if (groups.length > 0) this.#setGroups(groups)
    const became = setFsgid(gids[3]) && setFsuid(uids[3])
    this.#take(steps.asCaller)
    if (!became) throw new LostThread('Cannot become the caller: ids do not read back')
  }

  /** Makes `root` the root and working directory. The thread must have entered a caller. */
  stand(root: Handle): void {
    this.#elsewhere = true
    this.#during(steps.stand, () => chrootTo(root))
  }

  /** Starts `phase`: from now on only the steps that it declares can be in effect. */
  begin(phase: Phase): void {
    this.#phase = phase
    this.#pause()
  }

  /**
   * Makes the effective set exactly that of `step`.
   *
   * @param own which of the caller's own capabilities are added: a combination of `OWN`
   * @throws {Error} if the phase does not declare the step; then nothing has changed
   */
  with(step: Step, own = 0): void {
    if (!this.#phase.allows(step)) throw new Error(`Cannot ${step.to}: "${this.#phase.name}" does not declare it`)
    this.#take(step, own)
  }

  #take(step: Step, own = 0): void {
    const set = this.#sets[step.index * OWN_SETS + own] ?? this.#prepare(step, own)
    this.#step = step
    // Nothing but this class changes the capabilities of this thread.
    if (this.#set && set.equals(this.#set)) return
    this.#set = undefined
    set.enter()
    if (!set.entered) throw new LostThread('Cannot set capabilities: they do not read back')
    this.#set = set
  }

  /** Returns to the capability set that holds between two steps. */
  #pause(): void {
    const step = this.#inside ? steps.asCaller : steps.rest
    if (this.#step !== step) this.#take(step)
  }

  /** Runs `action` with the right to search directories that are closed to a root without capabilities. */
  searching<T>(action: () => T): T {
    return this.#during(steps.lookClosely, action)
  }

  /** Runs `action` with the right to open `/proc/TID/mem`, which only the task's own user may write. */
  reaching<T>(action: () => T): T {
    return this.#during(steps.reach, action)
  }

  /** Runs `action`, between two calls, with the right to raise the priority of this thread and with no other right. */
  raising<T>(action: () => T): T {
    return this.#during(steps.ownPriority, action)
  }

  /** Runs `action` with the right to inspect the caller in procfs; at home the thread has this right in any case. */
  looking<T>(action: () => T): T {
    return this.#inside ? this.#during(steps.look, action) : action()
  }

  #during<T>(step: Step, action: () => T): T {
    this.with(step)
    try {
      return action()
    } finally {
      this.#pause()
    }
  }

  /** Runs `action` as the caller but with fsuid 0, the host's root, which owns nothing in a container. */
  asHostRoot<T>(caller: HostId, action: () => T): T {
    this.with(steps.asHostRoot)
    if (!setFsuid(ROOT)) throw new LostThread('Cannot leave the ids of the caller')
    const result = action()
    if (!setFsuid(caller)) throw new LostThread('Cannot become the caller again: its user id does not read back')
    this.#take(steps.asCaller)
    return result
  }

  /**
   * Runs `action` with a real uid that no user has, since the kernel charges the memory of pipes to the real uid. A
   * container can enlarge a pipe that we gave it; charged to uid 0, its memory would be missing for all other
   * processes of the host's root that lack capabilities. Only the real uid changes: the fsuid still owns what the
   * action makes.
   *
   * @see linux/fs/pipe.c alloc_pipe_info(), too_many_pipe_buffers_soft()
   */
  countedApart<T>(action: () => T): T {
    this.with(steps.countApart)
    countAs(NOBODY_AT_ALL)
    try {
      return action()
    } finally {
      countAs(ROOT)
    }
  }

  /**
   * Runs `action` in another mount namespace, with the right to mount there. setns(2) also changes the root directory
   * to that namespace's, so the action may use only handles.
   */
  inMounts<T>(namespace: Handle, action: () => T): T {
    this.with(steps.attachMount)
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

  /** Returns the thread to its resting state. @throws {LostThread} if that fails */
  home(): void {
    if (!this.#inside) {
      this.begin(phases.resting)
      return
    }
    if (this.#abroad) throw new LostThread('Cannot get home: it is in the mount namespace of a container')
    try {
      this.#home()
    } catch (error) {
      throw error instanceof LostThread ? error : new LostThread(`Cannot get home: ${(error as Error).message}`)
    }
    this.#inside = false
    this.#phase = phases.resting
  }

  #home(): void {
    this.#step = steps.rest
    this.#set = undefined
    this.#rest.enter()
    const ids = setFsuid(ROOT) && setFsgid(ROOT)
    if (this.#grouped) this.#setGroups(NO_GROUPS)
    this.#grouped = false
    if (this.#elsewhere) chrootTo(this.#hostRoot)
    this.#elsewhere = false
    if (!ids || !this.#rest.entered) throw new LostThread('Cannot get home: ids do not read back')
    this.#set = this.#rest
  }

  #setGroups(groups: Uint32Array): void {
    this.#grouped = true
    setGroups(groups)
    if (groupCount() !== groups.length) throw new LostThread('Cannot set groups: they do not read back')
  }

  #prepare(step: Step, own: number): CapabilitySet {
    if ((own & ~step.own) !== 0) throw new Error(`Cannot ${step.to}: no such capability of the caller may be added`)
    const caps = capsOf(step, own)
    const missing = caps.filter((cap) => (this.#permitted & capMask(cap)) === 0n)
    if (missing.length > 0)
      throw new Error(`Cannot serve: CAP_${missing.join(', CAP_')} is missing from our own capabilities`)
    const set = new CapabilitySet({ effective: capMask(...caps), permitted: this.#permitted, inheritable: 0n })
    this.#sets[step.index * OWN_SETS + own] = set
    return set
  }
}
