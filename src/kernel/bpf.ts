import {
  ATTACH,
  BPF,
  BPF_CGROUP_DEVICE,
  BPF_CGROUP_MAX_PROGS,
  BPF_F_ALLOW_MULTI,
  BPF_PROG_TYPE_CGROUP_DEVICE,
  INFO,
  LINK,
  LOAD,
  PROG_INFO_SIZE,
  QUERY,
  UPDATE,
} from '../abi/bpf-attr.ts'
import type { Errno } from '../abi/brand.ts'
import { errnos } from '../abi/errno.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { SyscallError } from './error.ts'
import { Fd } from './fd.ts'
import type { Handle } from './handle.ts'
import { address, check, cstring, lastErrno, libc } from './libc.ts'

const ATTR_SIZE = 144
/** How often a load is tried, as libbpf does. */
const LOADS = 5

const syscallBpf = libc.func('long syscall(long number, int command, uint8_t *attr, uint32_t size)')
const { bpf } = ownSyscalls(process.arch)

/** The argument of one call, in memory that is made once. */
const attr = new Uint8Array(ATTR_SIZE)
const view = new DataView(attr.buffer)

/** @param members u32 by their offsets */
function prepare(members: readonly (readonly [at: number, value: number])[]): void {
  attr.fill(0)
  for (const [at, value] of members) view.setUint32(at, value, true)
}
const call = (command: number, size = ATTR_SIZE): number => Number(syscallBpf(bpf, command, attr, size))

/** What the kernel reads by a pointer: memory that is made once, so that nothing moves or frees it meanwhile. */
class Room {
  readonly bytes: Uint8Array
  readonly at: bigint

  constructor(size: number) {
    this.bytes = new Uint8Array(size)
    this.at = address(this.bytes)
  }

  /** @returns the address of a copy; 0, at which nothing can be read, if there is nothing */
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

/** A program to be loaded; what is undefined could not be read, which the kernel shall find at its turn (EFAULT). */
export interface ProgramLoad {
  /** The members of `union bpf_attr` that are no pointers, at their places. */
  readonly attr: Uint8Array
  readonly instructions: Uint8Array | undefined
  readonly licence: Uint8Array | undefined
  /** Memory for the log of the verifier. */
  readonly log: Uint8Array | undefined
}

/** A descriptor or an errno, and how long the whole log is: 0 before 6.4, and where the verifier was not reached. */
export interface Loaded {
  readonly fd?: Fd
  readonly errno?: Errno
  readonly logSize: number
}

/** Loads a program. Needs CAP_BPF, and CAP_NET_ADMIN for one of a cgroup. @see bpf(2), kernel/bpf/syscall.c bpf_prog_load() */
export function loadProgram({ attr: members, instructions, licence, log }: ProgramLoad): Loaded {
  attr.fill(0)
  attr.set(members)
  view.setBigUint64(LOAD.instructions, instructionRoom.put(instructions), true)
  view.setBigUint64(LOAD.licence, licenceRoom.put(licence), true)
  view.setBigUint64(LOAD.log, log ? address(log) : 0n, true)
  let outcome = load()
  // The verifier gives up where a signal is pending, which was ours and not the caller's: kernel/bpf/verifier.c do_check().
  for (let tries = 1; outcome.errno === errnos.EAGAIN && tries < LOADS; tries++) outcome = load()
  return { ...outcome, logSize: view.getUint32(LOAD.logTrueSize, true) }
}

function load(): Omit<Loaded, 'logSize'> {
  const fd = call(BPF.PROG_LOAD)
  return fd < 0 ? { errno: lastErrno() } : { fd: new Fd(fd) }
}

/** @throws {SyscallError} EPERM if a group above does not allow it; E2BIG for too many programs */
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

/** @throws {SyscallError} ENOENT if it is not attached there */
export function detachProgram(group: Handle, program: Handle): void {
  prepare([
    [ATTACH.target, group.raw],
    [ATTACH.program, program.raw],
    [ATTACH.type, BPF_CGROUP_DEVICE],
  ])
  check('bpf', call(BPF.PROG_DETACH))
}

/** The device programs of one cgroup, without those of the groups above. */
export interface Attached {
  /** BPF_F_ALLOW_OVERRIDE, BPF_F_ALLOW_MULTI or 0. */
  readonly flags: number
  readonly ids: readonly number[]
  /** Counts the changes; 0 before 6.17. */
  readonly revision: bigint
}

/** Needs CAP_NET_ADMIN. */
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

/** Needs CAP_SYS_ADMIN. @throws {SyscallError} ENOENT */
export function programById(id: number): Fd {
  prepare([[0, id]])
  return new Fd(check('bpf', call(BPF.PROG_GET_FD_BY_ID)))
}

/** `struct bpf_prog_info` or `bpf_link_info` without anything that is told through pointers, as long as the kernel has it. */
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

/** Attaches by a link: the program is detached when the last descriptor of the link is closed. @throws {SyscallError} as to attach */
export function createLink(group: Handle, program: Handle): Fd {
  prepare([
    [LINK.program, program.raw],
    [LINK.target, group.raw],
    [LINK.type, BPF_CGROUP_DEVICE],
  ])
  return new Fd(check('bpf', call(BPF.LINK_CREATE)))
}

/** Puts another program in the place of a link's; with `old`, only if that is the present one (EPERM). */
export function updateLink(link: Handle, program: Handle, flags: number, old?: Handle): void {
  prepare([
    [UPDATE.link, link.raw],
    [UPDATE.program, program.raw],
    [UPDATE.flags, flags],
    [UPDATE.old, old?.raw ?? 0],
  ])
  check('bpf', call(BPF.LINK_UPDATE))
}

/** @throws {SyscallError} EOPNOTSUPP for a link that cannot */
export function detachLink(link: Handle): void {
  prepare([[0, link.raw]])
  check('bpf', call(BPF.LINK_DETACH))
}

/** Loads a device program. @throws {SyscallError} EPERM without CAP_BPF and CAP_NET_ADMIN; EINVAL for one that is rejected */
export function loadDeviceProgram(instructions: Uint8Array): Fd {
  const members = new DataView(new ArrayBuffer(ATTR_SIZE))
  members.setUint32(LOAD.type, BPF_PROG_TYPE_CGROUP_DEVICE, true)
  members.setUint32(LOAD.count, instructions.length / 8, true)
  const load = { attr: new Uint8Array(members.buffer), instructions, licence: cstring('GPL'), log: undefined }
  const { fd, errno } = loadProgram(load)
  if (!fd) throw new SyscallError('bpf', errno!)
  return fd
}

/**
 * Puts a device program on a control group of v2: with the programs of the groups below, all must allow. It is there as long
 * as the group.
 *
 * @throws {SyscallError} as to load; EPERM where what is attached there bears no other
 */
export function attachDeviceProgram(group: Handle, instructions: Uint8Array): void {
  using program = loadDeviceProgram(instructions)
  attachProgram(group, program, BPF_F_ALLOW_MULTI)
}
