import {
  ATTACH,
  BPF,
  BPF_CGROUP_DEVICE,
  BPF_CGROUP_MAX_PROGS,
  BPF_F_ALLOW_MULTI,
  BPF_LINK_GET_FD_BY_ID,
  BPF_PROG_TYPE_CGROUP_DEVICE,
  INFO,
  LINK,
  LOAD,
  PROG_INFO_SIZE,
  QUERY,
  UPDATE,
} from '../abi/bpf.ts'
import type { Errno } from '../abi/brand.ts'
import { errnos } from '../abi/errno.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { SyscallError } from './error.ts'
import { Fd, type Handle } from './fd.ts'
import { address, check, cstring, lastErrno, libc } from './libc.ts'

const ATTR_SIZE = 144
/** How often a load is tried at most, as in libbpf. */
const LOADS = 5

const syscallBpf = libc.func('long syscall(long number, int command, uint8_t *attr, uint32_t size)')
const { bpf } = ownSyscalls(process.arch)

/** The argument of the present call, in memory that is allocated once. */
const attr = new Uint8Array(ATTR_SIZE)
const view = new DataView(attr.buffer)

/** Fills the argument. @param members offsets and u32 values */
function prepare(members: readonly (readonly [at: number, value: number])[]): void {
  attr.fill(0)
  for (const [at, value] of members) view.setUint32(at, value, true)
}
const call = (command: number): number => Number(syscallBpf(bpf, command, attr, ATTR_SIZE))

/** Memory that the kernel reads by a pointer. It is allocated once, so that nothing moves or frees it during a call. */
class Room {
  readonly bytes: Uint8Array
  readonly at: bigint

  constructor(size: number) {
    this.bytes = new Uint8Array(size)
    this.at = address(this.bytes)
  }

  /** Copies `bytes` here. @returns the address of the copy; 0, from which the kernel cannot read, without `bytes` */
  put(bytes: Uint8Array | undefined): bigint {
    if (!bytes) return 0n
    this.bytes.fill(0)
    this.bytes.set(bytes)
    return this.at
  }
}

const instructionRoom = new Room(32 * 1024)
const licenceRoom = new Room(128)
const idRoom = new Room(4 * BPF_CGROUP_MAX_PROGS)
const infoRoom = new Room(PROG_INFO_SIZE)

/**
 * A program to load. A member which could not be read is undefined: the kernel then fails in its own order (EFAULT).
 */
export interface ProgramLoad {
  /** The members of `union bpf_attr` that are not pointers, at their offsets. */
  readonly attr: Uint8Array
  readonly instructions: Uint8Array | undefined
  readonly licence: Uint8Array | undefined
  /** The buffer for the verifier's log. */
  readonly log: Uint8Array | undefined
}

/** A descriptor or an errno, and the length of the whole log: 0 before 6.4, and if the verifier was not reached. */
export interface Loaded {
  readonly fd?: Fd
  readonly errno?: Errno
  readonly logSize: number
}

/**
 * Loads a program. Needs CAP_BPF, and CAP_NET_ADMIN for a program of a cgroup.
 *
 * @see bpf(2), kernel/bpf/syscall.c bpf_prog_load()
 */
export function loadProgram({ attr: members, instructions, licence, log }: ProgramLoad): Loaded {
  attr.fill(0)
  attr.set(members)
  view.setBigUint64(LOAD.instructions, instructionRoom.put(instructions), true)
  view.setBigUint64(LOAD.licence, licenceRoom.put(licence), true)
  view.setBigUint64(LOAD.log, log ? address(log) : 0n, true)
  const given = view.getUint32(LOAD.logTrueSize, true)
  let outcome = load()
  // The verifier gives up (EAGAIN) if a signal is pending: kernel/bpf/verifier.c do_check(). That is ours, not the
  // caller's.
  for (let tries = 1; outcome.errno === errnos.EAGAIN && tries < LOADS; tries++) outcome = load()
  const written = view.getUint32(LOAD.logTrueSize, true)
  return { ...outcome, logSize: written === given ? 0 : written }
}

function load(): Omit<Loaded, 'logSize'> {
  const fd = call(BPF.PROG_LOAD)
  return fd < 0 ? { errno: lastErrno() } : { fd: new Fd(fd) }
}

/**
 * Attaches a program to a cgroup.
 *
 * @throws {SyscallError} EPERM if a cgroup above forbids it; E2BIG if it has too many
 */
export function attachProgram(group: Handle, program: Handle, flags: number, replace?: Handle): void {
  prepare([
    [ATTACH.target, group.raw],
    [ATTACH.program, program.raw],
    [ATTACH.type, BPF_CGROUP_DEVICE],
    [ATTACH.flags, flags],
    [ATTACH.replace, replace?.raw ?? 0],
  ])
  check('bpf', call(BPF.PROG_ATTACH))
}

/** Detaches a program from a cgroup. @throws {SyscallError} ENOENT if it is not attached there */
export function detachProgram(group: Handle, program: Handle): void {
  prepare([
    [ATTACH.target, group.raw],
    [ATTACH.program, program.raw],
    [ATTACH.type, BPF_CGROUP_DEVICE],
  ])
  check('bpf', call(BPF.PROG_DETACH))
}

/** The device programs of one cgroup, without the programs of cgroups above. */
export interface Attached {
  /** BPF_F_ALLOW_OVERRIDE, BPF_F_ALLOW_MULTI or 0. */
  readonly flags: number
  readonly ids: readonly number[]
  /** The number of changes; 0 before 6.17. */
  readonly revision: bigint
}

/** Returns the device programs attached to a cgroup. Needs CAP_NET_ADMIN. */
export function attachedPrograms(group: Handle): Attached {
  prepare([
    [QUERY.target, group.raw],
    [QUERY.type, BPF_CGROUP_DEVICE],
    [QUERY.count, BPF_CGROUP_MAX_PROGS],
  ])
  view.setBigUint64(QUERY.ids, idRoom.at, true)
  check('bpf', call(BPF.PROG_QUERY))
  const ids = new Uint32Array(idRoom.bytes.buffer, 0, view.getUint32(QUERY.count, true))
  return {
    flags: view.getUint32(QUERY.attachFlags, true),
    ids: [...ids],
    revision: view.getBigUint64(QUERY.revision, true),
  }
}

/** Opens a program by its id; undefined if there is none. Needs CAP_SYS_ADMIN. */
export const programById = (id: number): Fd | undefined => byId(BPF.PROG_GET_FD_BY_ID, id)

/** Does the same for a link. */
export const linkById = (id: number): Fd | undefined => byId(BPF_LINK_GET_FD_BY_ID, id)

function byId(command: number, id: number): Fd | undefined {
  prepare([[0, id]])
  const fd = call(command)
  return fd < 0 && lastErrno() === errnos.ENOENT ? undefined : new Fd(check('bpf', fd))
}

/** Returns `struct bpf_prog_info` or `bpf_link_info`, in the kernel's length, without the data behind its pointers. */
export function objectInfo(object: Handle): Uint8Array {
  prepare([
    [INFO.object, object.raw],
    [INFO.length, PROG_INFO_SIZE],
  ])
  infoRoom.bytes.fill(0)
  view.setBigUint64(INFO.info, infoRoom.at, true)
  check('bpf', call(BPF.OBJ_GET_INFO_BY_FD))
  return infoRoom.bytes.slice(0, view.getUint32(INFO.length, true))
}

/**
 * Attaches a program by a link: it is detached when the last descriptor of the link is closed.
 *
 * @throws {SyscallError} as `attachProgram`
 */
export function createLink(group: Handle, program: Handle): Fd {
  prepare([
    [LINK.program, program.raw],
    [LINK.target, group.raw],
    [LINK.type, BPF_CGROUP_DEVICE],
  ])
  return new Fd(check('bpf', call(BPF.LINK_CREATE)))
}

/** Replaces the program of a link. @throws {SyscallError} EPERM if the present program is not `old` */
export function updateLink(link: Handle, program: Handle, flags: number, old?: Handle): void {
  prepare([
    [UPDATE.link, link.raw],
    [UPDATE.program, program.raw],
    [UPDATE.flags, flags],
    [UPDATE.old, old?.raw ?? 0],
  ])
  check('bpf', call(BPF.LINK_UPDATE))
}

/** Detaches the program of a link. @throws {SyscallError} EOPNOTSUPP if this kind of link cannot do it */
export function detachLink(link: Handle): void {
  prepare([[0, link.raw]])
  check('bpf', call(BPF.LINK_DETACH))
}

/**
 * Loads a device program.
 *
 * @throws {SyscallError} EPERM without CAP_BPF and CAP_NET_ADMIN; EINVAL if the verifier rejects it
 */
function loadDeviceProgram(instructions: Uint8Array): Fd {
  const members = new DataView(new ArrayBuffer(ATTR_SIZE))
  members.setUint32(LOAD.type, BPF_PROG_TYPE_CGROUP_DEVICE, true)
  members.setUint32(LOAD.count, instructions.length / 8, true)
  const load = { attr: new Uint8Array(members.buffer), instructions, licence: cstring('GPL'), log: undefined }
  const { fd, errno } = loadProgram(load)
  if (!fd) throw new SyscallError('bpf', errno!)
  return fd
}

/**
 * Attaches a device program to a cgroup of v2, for as long as the cgroup exists. A device is allowed only if all
 * programs of its cgroup and of the cgroups above allow it.
 *
 * @throws {SyscallError} as `loadDeviceProgram`; EPERM if a program without BPF_F_ALLOW_MULTI is attached there
 */
export function attachDeviceProgram(group: Handle, instructions: Uint8Array): void {
  using program = loadDeviceProgram(instructions)
  attachProgram(group, program, BPF_F_ALLOW_MULTI)
}
