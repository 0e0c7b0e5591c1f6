import type { Tid } from '../abi/brand.ts'
import { decodeSchedAttr, SCHED_ATTR_SIZE_VER1, type SchedAttr } from '../abi/sched.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { check, libc } from './libc.ts'

/** These are raw system calls: musl's sched_setscheduler() is a stub, and older glibc has no sched_setattr(). */
const syscallPolicy = libc.func('syscall', 'long', ['long', 'int', 'int', 'uint8_t *'])
const syscallParam = libc.func('syscall', 'long', ['long', 'int', 'uint8_t *'])
const syscallAttr = libc.func('syscall', 'long', ['long', 'int', 'uint8_t *', 'uint32_t', 'uint32_t'])
const { sched_setscheduler, sched_setparam, sched_setattr, sched_getattr } = ownSyscalls(process.arch)

/** `struct sched_param`: one int. */
const param = new Uint8Array(4)
const paramView = new DataView(param.buffer)

function paramOf(priority: number): Uint8Array {
  paramView.setInt32(0, priority, true)
  return param
}

/**
 * Sets the scheduling policy and priority of a task.
 *
 * @param policy SCHED_*, with SCHED_RESET_ON_FORK or without
 * @throws {SyscallError} EINVAL for a priority that the policy does not have; EPERM without CAP_SYS_NICE, and for a
 *   real-time policy in a cgroup of v1 that has no real-time budget; ESRCH
 * @see linux/kernel/sched/syscalls.c __sched_setscheduler()
 */
export function schedSetscheduler(tid: Tid, policy: number, priority: number): void {
  check('sched_setscheduler', Number(syscallPolicy(sched_setscheduler, tid, policy, paramOf(priority))))
}

/** Sets the priority of a task and keeps its policy. @throws {SyscallError} as `schedSetscheduler` */
export function schedSetparam(tid: Tid, priority: number): void {
  check('sched_setparam', Number(syscallParam(sched_setparam, tid, paramOf(priority))))
}

/**
 * Sets the scheduling of a task.
 *
 * @param attr `struct sched_attr`
 * @throws {SyscallError} as `schedSetscheduler`; E2BIG
 */
export function schedSetattr(tid: Tid, attr: Uint8Array): void {
  check('sched_setattr', Number(syscallAttr(sched_setattr, tid, attr, 0, 0)))
}

const attr = new Uint8Array(SCHED_ATTR_SIZE_VER1)

/** Returns `struct sched_attr` of a task, in memory that the next call overwrites. @throws {SyscallError} ESRCH */
export function schedGetattr(tid: Tid): Uint8Array {
  check('sched_getattr', Number(syscallAttr(sched_getattr, tid, attr, attr.length, 0)))
  return attr
}

/** Returns the scheduling of a task, decoded. @throws {SyscallError} ESRCH */
export const schedulingOf = (tid: Tid): SchedAttr => decodeSchedAttr(schedGetattr(tid))
