import type { HostId } from '../abi/brand.ts'
import {
  _LINUX_CAPABILITY_VERSION_3,
  KEY_SPEC_SESSION_KEYRING,
  KEY_USR_ALL,
  KEYCTL_CHOWN,
  KEYCTL_JOIN_SESSION_KEYRING,
  KEYCTL_SETPERM,
} from '../abi/credentials.ts'
import { PR_CAPBSET_DROP, PR_CAPBSET_READ } from '../abi/process.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { ignoring, orFalse } from './error.ts'
import { check, libc } from './libc.ts'

/**
 * Credentials of the calling *thread*, by raw system calls: the C library's setgroups() and setresuid() change all
 * threads of the process. Changes are read back where the call does not report failure: setfsuid() and setfsgid().
 */
const syscall1 = libc.func('syscall', 'long', ['long', 'uint32_t'])
const syscallBytes = libc.func('long syscall(long number, uint8_t *header, uint8_t *data)')
const syscallSized = libc.func('long syscall(long number, long size, uint8_t *list)')
const syscall3 = libc.func('syscall', 'long', ['long', 'uint32_t', 'uint32_t', 'uint32_t'])
const syscallKeys = libc.func('syscall', 'long', ['long', 'int', 'long', 'uint32_t', 'uint32_t'])
const { setfsuid, setfsgid, setresuid, setresgid, setgroups, getgroups, capget, capset, keyctl } = ownSyscalls(
  process.arch,
)

const NOTHING = 0xffff_ffff

/** Sets the file system user id. @returns whether it is set now */
export function setFsuid(uid: HostId): boolean {
  syscall1(setfsuid, uid)
  return syscall1(setfsuid, NOTHING) === uid
}

/** Sets the file system group id. @returns whether it is set now */
export function setFsgid(gid: HostId): boolean {
  syscall1(setfsgid, gid)
  return syscall1(setfsgid, NOTHING) === gid
}

/**
 * Sets the real, effective and saved user id; the file system user id follows the effective id.
 *
 * @throws {SyscallError} EPERM, EINVAL
 */
export function setResuid(real: number, effective: number, saved: number): void {
  check('setresuid', Number(syscall3(setresuid, real, effective, saved)))
}

/** Sets the real user id; the fsuid becomes the effective id. Needs CAP_SETUID. @returns whether it is set now */
export const setRealUid = (uid: HostId): boolean => Number(syscall3(setresuid, uid, NOTHING, NOTHING)) === 0

/**
 * The highest valid uid, since -1 means "no id". No user has it, so no user may signal a thread that has it for a
 * moment.
 */
export const NOBODY_AT_ALL = 0xffff_fffe as HostId

/**
 * Runs `action` with a real uid that no user has: the kernel charges the memory of a pipe to the real uid of its maker,
 * and whoever has an end of the pipe can enlarge it. A rootless daemon cannot take that uid, and keeps its user's.
 *
 * @throws {Error} if the thread has not got its own uid back
 * @see linux/fs/pipe.c alloc_pipe_info(), too_many_pipe_buffers_soft()
 */
export function countedForNobody<T>(action: () => T): T {
  const own = process.getuid!() as HostId
  if (!setRealUid(NOBODY_AT_ALL)) return action()
  try {
    return action()
  } finally {
    check('setresuid', setRealUid(own) ? 0 : -1)
  }
}

/**
 * Gives the calling thread a new and empty session keyring, which the processes that it starts inherit. A process
 * possesses the keys in its session keyring whatever its ids are. A kernel without keyrings has nothing to inherit.
 *
 * @throws {SyscallError} EDQUOT; EPERM if a filter forbids it
 * @see keyctl_join_session_keyring(3), session-keyring(7)
 */
export function joinEmptyKeyring(): void {
  ignoring(['ENOSYS'], () => check('keyctl', Number(syscallKeys(keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0))))
}

/**
 * Makes others the owners of the session keyring of the calling thread: the kernel charges it, and the links in it, to
 * them. A rootless daemon may not (EACCES): there it stays charged to the daemon's user, who is the container's, too.
 *
 * @returns false if they have too many keys; then nothing has changed
 * @see keyctl_chown(3)
 */
export const giveKeyring = (uid: HostId, gid: HostId): boolean =>
  orFalse(['EDQUOT'], () => {
    ignoring(['ENOSYS', 'EACCES'], () =>
      check('keyctl', Number(syscallKeys(keyctl, KEYCTL_CHOWN, KEY_SPEC_SESSION_KEYRING, uid, gid))),
    )
    return true
  })

/**
 * Takes all rights to the session keyring of the calling thread from whoever possesses it: only its owner, our user,
 * can look at it or change it.
 *
 * @see keyctl_setperm(3)
 */
export function closeKeyring(): void {
  check('keyctl', Number(syscallKeys(keyctl, KEYCTL_SETPERM, KEY_SPEC_SESSION_KEYRING, KEY_USR_ALL, 0)))
}

/**
 * Sets the effective user id; the file system user id follows it.
 *
 * @throws {SyscallError} EPERM without CAP_SETUID; EINVAL if our user namespace does not map the id
 */
export function setEffectiveUid(uid: HostId): void {
  setResuid(NOTHING, uid, NOTHING)
}

/** Does the same as `setResuid` for the group ids. */
export function setResgid(real: number, effective: number, saved: number): void {
  check('setresgid', Number(syscall3(setresgid, real, effective, saved)))
}

/** Sets the supplementary groups of the thread. @throws {SyscallError} EPERM without CAP_SETGID */
export function setGroups(groups: Uint32Array): void {
  check('setgroups', syscallSized(setgroups, groups.length, bytesOf(groups)))
}

/** Returns how many supplementary groups the thread has. */
export function groupCount(): number {
  return check('getgroups', syscallSized(getgroups, 0, empty))
}

const empty = new Uint8Array(4)
const bytesOf = (list: Uint32Array): Uint8Array =>
  list.length === 0 ? empty : new Uint8Array(list.buffer, list.byteOffset, list.byteLength)

/** The three sets of a thread as 64-bit masks. */
export interface Capabilities {
  readonly effective: bigint
  readonly permitted: bigint
  readonly inheritable: bigint
}

const header = new Uint8Array(8)
const headerView = new DataView(header.buffer)
headerView.setUint32(0, _LINUX_CAPABILITY_VERSION_3, true)
const data = new Uint8Array(24)
const dataView = new DataView(data.buffer)

/**
 * Returns the capabilities of the calling thread.
 *
 * @see capget(2): `struct __user_cap_data_struct[2]` is u32 effective, permitted, inheritable; low halves first
 */
export function getCapabilities(): Capabilities {
  check('capget', syscallBytes(capget, header, data))
  return { effective: both(0), permitted: both(4), inheritable: both(8) }
}

const both = (at: number): bigint =>
  BigInt(dataView.getUint32(at, true)) | (BigInt(dataView.getUint32(at + 12, true)) << 32n)

const libcPrctl = libc.func('int prctl(int option, ulong a)')

/** Returns 1 or 0: whether the bounding set has a capability; -1 if the kernel has no capability of this number. */
const isBounded = (number: number): number => libcPrctl(PR_CAPBSET_READ, number)

/** Returns the calling thread's bounding set, the capabilities that it could still gain, as a 64-bit mask. */
export function boundingSet(): bigint {
  let set = 0n
  for (let number = 0, has = isBounded(0); has >= 0; has = isBounded(++number)) set |= BigInt(has) << BigInt(number)
  return set
}

/** Empties the bounding set, for good. @throws {SyscallError} EPERM without CAP_SETPCAP */
export function dropBoundingSet(): void {
  for (let number = 0; isBounded(number) >= 0; number++) check('prctl', libcPrctl(PR_CAPBSET_DROP, number))
}

/** A prepared argument of capset(2): the sets are few and known at the start, so a call only passes a pointer. */
export class CapabilitySet {
  readonly #bytes = new Uint8Array(24)
  readonly #low: number
  readonly #high: number

  constructor({ effective, permitted, inheritable }: Capabilities) {
    const view = new DataView(this.#bytes.buffer)
    for (const [index, mask] of [effective, permitted, inheritable].entries()) {
      view.setUint32(4 * index, Number(mask & 0xffff_ffffn), true)
      view.setUint32(4 * index + 12, Number(mask >> 32n), true)
    }
    this.#low = view.getUint32(0, true)
    this.#high = view.getUint32(12, true)
  }

  /** Returns whether the effective set is the same; all sets of a thread have the same permitted set. */
  equals(other: CapabilitySet): boolean {
    return this.#low === other.#low && this.#high === other.#high
  }

  /** Gives the calling thread these sets. @throws {SyscallError} EPERM for more than is permitted */
  enter(): void {
    check('capset', syscallBytes(capset, header, this.#bytes))
  }

  /** Returns whether the thread's *effective* set is exactly the effective set here. */
  get entered(): boolean {
    check('capget', syscallBytes(capget, header, data))
    return dataView.getUint32(0, true) === this.#low && dataView.getUint32(12, true) === this.#high
  }
}

/**
 * Gives up all capabilities of the calling thread except those in `mask`.
 *
 * @throws {Error} if reading back shows others
 */
export function keepOnly(mask: bigint): void {
  const kept = getCapabilities().permitted & mask
  new CapabilitySet({ effective: kept, permitted: kept, inheritable: 0n }).enter()
  const { effective, permitted, inheritable } = getCapabilities()
  if (effective !== kept || permitted !== kept || inheritable !== 0n)
    throw new Error('Cannot give capabilities up: they are there still')
}
