import type { HostId } from '../../abi/brand.ts'
import { capMask } from '../../abi/capability.ts'
import { CLONE_FS, CLONE_NEWNS } from '../../abi/namespace.ts'
import { SECBIT_NO_SETUID_FIXUP } from '../../abi/prctl.ts'
import { capsOf, OWN_SETS, type Phase, permitted, phases, type Step, steps } from '../../calls/steps.ts'
import {
  boundingSet,
  CapabilitySet,
  dropBoundingSet,
  getCapabilities,
  groupCount,
  setEffectiveUid,
  setFsgid,
  setFsuid,
  setGroups,
  setRealUid,
} from '../../kernel/credentials.ts'
import { ignoring } from '../../kernel/error.ts'
import { chrootTo, umask } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { setns, unshare } from '../../kernel/namespaces.ts'
import { hasNoNewPrivileges, setNoNewPrivileges, setSecurebits } from '../../kernel/process.ts'
import type { ProcStatus } from '../../kernel/procfs/status.ts'

/** A thread that could not get home: it may stand in a container with somebody's ids, and must never be used again. */
export class LostThread extends Error {
  override readonly name = 'LostThread'
}

const ROOT = 0 as HostId
/** The last one before -1, which is none: no user has it, so none may signal a thread that has it for a moment. */
const NOBODY_AT_ALL = 0xffff_fffe as HostId
const NO_GROUPS = new Uint32Array(0)

function countAs(uid: HostId): void {
  if (!setRealUid(uid)) throw new LostThread('Cannot change the real user id')
}

/** In the namespace of a user, whose daemon it is then, there is no such id: it stays that user, and has no more rights. */
function becomeNobody(): void {
  ignoring(['EINVAL'], () => setEffectiveUid(NOBODY_AT_ALL))
}

/**
 * Who the calling thread is. At home it is root of the host without any capability over files; `enter` makes ids, groups
 * and umask those of a caller and takes every capability away; `home` brings it back. All of it is
 * of this thread alone, and each change is read back.
 *
 * What it may ever have in effect is declared (calls/steps.ts), and what now, by the phase that it is in. It is permitted no
 * more than that, and can get no more: its bounding set is empty, and no program that it executed would give it any.
 */
export class ThreadIdentity {
  readonly #hostRoot: Handle
  readonly #rest: CapabilitySet
  /** By step and what is added to it; prepared when they are first needed. */
  readonly #sets: (CapabilitySet | undefined)[]
  readonly #permitted: bigint
  /** Our own mount namespace. */
  readonly #mounts: Handle
  #inside = false
  #abroad = false
  /** Its root directory may be another one than the host's. */
  #elsewhere = false
  #grouped = false
  #phase: Phase = phases.resting
  #step: Step = steps.rest

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
    this.#permitted = getCapabilities().permitted & capMask(...permitted)
    this.#sets = new Array(Object.keys(steps).length * OWN_SETS).fill(undefined)
    this.#rest = this.#set(steps.rest, 0)
    this.#set(steps.stand, 0)
    unshare(CLONE_FS)
    setSecurebits(SECBIT_NO_SETUID_FIXUP)
    // Whose effective user has made a user namespace has all rights in it, whatever its capabilities: also those to look at its
    // tasks, which the caller may not have. (linux/security/commoncap.c cap_capable())
    becomeNobody()
    dropBoundingSet()
    setNoNewPrivileges()
    this.#grouped = true
    this.#elsewhere = true
    this.#home()
    if (getCapabilities().permitted !== this.#permitted || boundingSet() !== 0n || !hasNoNewPrivileges())
      throw new LostThread('Cannot give capabilities up: they are there still')
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
  enter({ uids, gids, groups, umask: mask }: ProcStatus): void {
    this.#inside = true
    if (this.#step !== steps.rest) this.#take(steps.rest)
    umask(mask)
    if (groups.length > 0) this.#setGroups(groups)
    const became = setFsgid(gids[3]) && setFsuid(uids[3])
    this.#take(steps.asCaller)
    if (!became) throw new LostThread('Cannot become the caller: ids do not read back')
  }

  /** Makes `root` the root and working directory, inside. */
  stand(root: Handle): void {
    this.#elsewhere = true
    this.#during(steps.stand, () => chrootTo(root))
  }

  /** From now on only what `phase` declares can be in effect. */
  begin(phase: Phase): void {
    this.#phase = phase
    this.#pause()
  }

  /**
   * Makes the effective set exactly that of `step`.
   *
   * @param own what is added of the caller's own: a combination of `OWN`
   * @throws {Error} if the phase does not declare that: nothing has changed then
   */
  with(step: Step, own = 0): void {
    if (!this.#phase.allows(step)) throw new Error(`Cannot ${step.to}: "${this.#phase.name}" does not declare it`)
    this.#take(step, own)
  }

  #take(step: Step, own = 0): void {
    const set = this.#sets[step.index * OWN_SETS + own] ?? this.#set(step, own)
    this.#step = step
    set.enter()
    if (!set.entered) throw new LostThread('Cannot set capabilities: they do not read back')
  }

  /** Between steps. */
  #pause(): void {
    const step = this.#inside ? steps.asCaller : steps.rest
    if (this.#step !== step) this.#take(step)
  }

  /** Runs `action` with the right to search directories that are closed to root without capabilities. */
  searching<T>(action: () => T): T {
    return this.#during(steps.lookClosely, action)
  }

  /** Runs `action` with the right to open the memory of a task, a file that only its user may write. */
  reaching<T>(action: () => T): T {
    return this.#during(steps.reach, action)
  }

  /** Runs `action` between two calls with the right to raise the priority of this thread, and no other. */
  raising<T>(action: () => T): T {
    return this.#during(steps.ownPriority, action)
  }

  /** Runs `action` with the right to look at the caller, which it has at home in any case. */
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

  /** Runs `action` inside with the file system user of the host's root, which owns nothing in a container. */
  asHostRoot<T>(caller: HostId, action: () => T): T {
    this.with(steps.asHostRoot)
    if (!setFsuid(ROOT)) throw new LostThread('Cannot leave the ids of the caller')
    const result = action()
    if (!setFsuid(caller)) throw new LostThread('Cannot become the caller again: its user id does not read back')
    this.#take(steps.asCaller)
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
    this.with(steps.countApart)
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

  /** @throws {LostThread} if the thread cannot get home */
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

  #set(step: Step, own: number): CapabilitySet {
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
