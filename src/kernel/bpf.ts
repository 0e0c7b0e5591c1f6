import { ownSyscalls } from '../abi/syscalls.ts'
import { Fd } from './fd.ts'
import type { Handle } from './handle.ts'
import { address, check, cstring, libc } from './libc.ts'

const BPF_PROG_LOAD = 5
const BPF_PROG_ATTACH = 8
const BPF_PROG_TYPE_CGROUP_DEVICE = 15
const BPF_CGROUP_DEVICE = 6
const BPF_F_ALLOW_MULTI = 2
const ATTR_SIZE = 72

const syscallBpf = libc.func('long syscall(long number, int command, uint8_t *attr, uint32_t size)')
const { bpf } = ownSyscalls(process.arch)

const call = (command: number, attr: Uint8Array): number =>
  check('bpf', Number(syscallBpf(bpf, command, attr, attr.length)))

/**
 * Puts a device program on a control group of v2: with the programs of the groups below, all must allow. It is there as long
 * as the group.
 *
 * @throws {SyscallError} EPERM without CAP_BPF and CAP_NET_ADMIN; EINVAL for a program that the kernel rejects
 * @see bpf(2): for a load 0 u32 type | 4 u32 count | 8 u64 instructions | 16 u64 licence; to attach 0 u32 group | 4 u32
 *   program | 8 u32 type | 12 u32 flags
 */
export function attachDeviceProgram(group: Handle, instructions: Uint8Array): void {
  const licence = cstring('GPL')
  const load = Buffer.alloc(ATTR_SIZE)
  load.writeUInt32LE(BPF_PROG_TYPE_CGROUP_DEVICE, 0)
  load.writeUInt32LE(instructions.length / 8, 4)
  load.writeBigUInt64LE(address(instructions), 8)
  load.writeBigUInt64LE(address(licence), 16)
  using program = new Fd(call(BPF_PROG_LOAD, load))
  const attach = Buffer.alloc(ATTR_SIZE)
  attach.writeUInt32LE(group.raw, 0)
  attach.writeUInt32LE(program.raw, 4)
  attach.writeUInt32LE(BPF_CGROUP_DEVICE, 8)
  attach.writeUInt32LE(BPF_F_ALLOW_MULTI, 12)
  call(BPF_PROG_ATTACH, attach)
}
