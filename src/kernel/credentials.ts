import type { HostId } from '../abi/brand.ts'
import { PR_CAPBSET_DROP, PR_CAPBSET_READ } from '../abi/prctl.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { check, libc } from './libc.ts'

/**
 * Credentials of the calling *thread*. Only raw system calls: the C library's setgroups() and setresuid() change all
 * threads of the process. Whoever changes something reads it back: setfsuid() and setfsgid() do not report failure.
 */
const syscall1 = libc.func('syscall', 'long', ['long', 'uint32_t'])
const syscallBytes = libc.func('long syscall(long number, uint8_t *header, uint8_t *data)')
const syscallSized = libc.func('long syscall(long number, long size, uint8_t *list)')
const syscall3 = libc.func('syscall', 'long', ['long', 'uint32_t', 'uint32_t', 'uint32_t'])
const { setfsuid, setfsgid, setresuid, setresgid, setgroups, getgroups, capget, capset } = ownSyscalls(process.arch)

const NOTHING = 0xffff_ffff
const CAPABILITY_VERSION_3 = 0x20080522

/** Sets the file system user id and tells whether it is set now. */
export function setFsuid(uid: HostId): boolean {
  syscall1(setfsuid, uid)
  return syscall1(setfsuid, NOTHING) === uid
}

/** Sets the file system group id and tells whether it is set now. */
export function setFsgid(gid: HostId): boolean {
  syscall1(setfsgid, gid)
  return syscall1(setfsgid, NOTHING) === gid
}

/** Sets the real, effective and saved user id, and with the effective one the file system's. @throws {SyscallError} EPERM, EINVAL */
export function setResuid(real: number, effective: number, saved: number): void {
  check('setresuid', Number(syscall3(setresuid, real, effective, saved)))
}

/** Sets the real user id alone. Needs CAP_SETUID. @returns whether it is set now */
export const setRealUid = (uid: HostId): boolean => Number(syscall3(setresuid, uid, NOTHING, NOTHING)) === 0

/** Sets the effective user id, and with it the file system's. @throws {SyscallError} EPERM without CAP_SETUID; EINVAL where there is no such id */
export function setEffectiveUid(uid: HostId): void {
  setResuid(NOTHING, uid, NOTHING)
}

/** As `setResuid`, for the group id. */
export function setResgid(real: number, effective: number, saved: number): void {
  check('setresgid', Number(syscall3(setresgid, real, effective, saved)))
}

/** @param groups 4 bytes each @throws {SyscallError} EPERM without CAP_SETGID */
export function setGroups(groups: Uint32Array): void {
  check('setgroups', syscallSized(setgroups, groups.length, bytesOf(groups)))
}

/** How many supplementary groups the thread has. */
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
headerView.setUint32(0, CAPABILITY_VERSION_3, true)
const data = new Uint8Array(24)
const dataView = new DataView(data.buffer)

/** Capabilities of the calling thread. `struct __user_cap_data_struct[2]`: effective, permitted, inheritable, low halves first. */
export function getCapabilities(): Capabilities {
  check('capget', syscallBytes(capget, header, data))
  return { effective: both(0), permitted: both(4), inheritable: both(8) }
}

const both = (at: number): bigint =>
  BigInt(dataView.getUint32(at, true)) | (BigInt(dataView.getUint32(at + 12, true)) << 32n)

const libcPrctl = libc.func('int prctl(int option, ulong a)')

/** Does the calling thread's bounding set have this one? @returns -1 if the kernel has no capability of that number */
const isBounded = (number: number): number => libcPrctl(PR_CAPBSET_READ, number)

/** The capabilities that the calling thread could still gain, as a 64-bit mask. */
export function boundingSet(): bigint {
  let set = 0n
  for (let number = 0, has = isBounded(0); has >= 0; has = isBounded(++number)) set |= BigInt(has) << BigInt(number)
  return set
}

/** Takes them all away, for good. @throws {SyscallError} EPERM without CAP_SETPCAP */
export function dropBoundingSet(): void {
  for (let number = 0; isBounded(number) >= 0; number++) check('prctl', libcPrctl(PR_CAPBSET_DROP, number))
}

/** A prepared argument of capset(2): sets are few and known at the start, so the path of a call only passes one on. */
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

  /** Makes this the thread's set. @throws {SyscallError} EPERM for more than is permitted */
  enter(): void {
    check('capset', syscallBytes(capset, header, this.#bytes))
  }

  /** Is the thread's *effective* set exactly this one? */
  get entered(): boolean {
    check('capget', syscallBytes(capget, header, data))
    return dataView.getUint32(0, true) === this.#low && dataView.getUint32(12, true) === this.#high
  }
}

/** Gives all capabilities of the calling thread up but these. @throws {Error} if they do not read back */
export function keepOnly(mask: bigint): void {
  const kept = getCapabilities().permitted & mask
  new CapabilitySet({ effective: kept, permitted: kept, inheritable: 0n }).enter()
  const { effective, permitted, inheritable } = getCapabilities()
  if (effective !== kept || permitted !== kept || inheritable !== 0n)
    throw new Error('Cannot give capabilities up: they are there still')
}
