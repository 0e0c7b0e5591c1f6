import { readFileSync, writeFileSync } from 'node:fs'
import type { Tid } from '../abi/brand.ts'
import {
  childOf,
  decodeSchedAttr,
  IOPRIO_WHO,
  PRIO,
  SCHED,
  SCHED_ATTR_SIZE_VER1,
  type SchedAttr,
} from '../abi/sched.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { check, libc } from './libc.ts'

/** These are raw system calls: musl's sched_setscheduler() is a stub, and older glibc has no sched_setattr(). */
const syscallPolicy = libc.func('syscall', 'long', ['long', 'int', 'int', 'uint8_t *'])
const syscallParam = libc.func('syscall', 'long', ['long', 'int', 'uint8_t *'])
const syscallAttr = libc.func('syscall', 'long', ['long', 'int', 'uint8_t *', 'uint32_t', 'uint32_t'])
const syscallGetIo = libc.func('syscall', 'long', ['long', 'int', 'int'])
const syscallSetPriority = libc.func('syscall', 'long', ['long', 'int', 'int', 'int'])
const libcGetAffinity = libc.func('int sched_getaffinity(int pid, size_t size, uint8_t *mask)')
const libcSetAffinity = libc.func('int sched_setaffinity(int pid, size_t size, uint8_t *mask)')
const { sched_setscheduler, sched_setparam, sched_setattr, sched_getattr, setpriority, ioprio_get, ioprio_set } =
  ownSyscalls(process.arch)

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

/**
 * Sets the nice value of a task.
 *
 * @param nice what is beyond -20 to 19 is taken for these
 * @throws {SyscallError} EACCES for a lower value without CAP_SYS_NICE; ESRCH
 * @see linux/kernel/sys.c set_one_prio()
 */
export function setNice(tid: Tid, nice: number): void {
  check('setpriority', Number(syscallSetPriority(setpriority, PRIO.PROCESS, tid, nice)))
}

/**
 * Sets the I/O class and priority of a task.
 *
 * @param ioprio class << 13 | hint << 3 | level
 * @throws {SyscallError} EINVAL; EPERM for the real-time class, or another user's task, without CAP_SYS_NICE; ESRCH
 * @see linux/block/ioprio.c ioprio_check_cap(), set_task_ioprio()
 */
export function setIoPriority(tid: Tid, ioprio: number): void {
  check('ioprio_set', Number(syscallSetPriority(ioprio_set, IOPRIO_WHO.PROCESS, tid, ioprio)))
}

/** Returns the I/O class and priority of a task. @throws {SyscallError} ESRCH */
export const ioPriorityOf = (tid: Tid): number =>
  check('ioprio_get', Number(syscallGetIo(ioprio_get, IOPRIO_WHO.PROCESS, tid)))

const attr = new Uint8Array(SCHED_ATTR_SIZE_VER1)

/** Returns `struct sched_attr` of a task, in memory that the next call overwrites. @throws {SyscallError} ESRCH */
export function schedGetattr(tid: Tid): Uint8Array {
  check('sched_getattr', Number(syscallAttr(sched_getattr, tid, attr, attr.length, 0)))
  return attr
}

/** Returns the scheduling of a task, decoded. @throws {SyscallError} ESRCH */
export const schedulingOf = (tid: Tid): SchedAttr => decodeSchedAttr(schedGetattr(tid))

/** What a child inherits of how a task runs. */
export interface Running {
  /** The processors, as a mask. */
  readonly affinity: Uint8Array
  readonly ioPriority: number
  /** `struct sched_attr`, as a child gets it. */
  readonly attr: Uint8Array
  /** As /proc/TID/timerslack_ns has it. */
  readonly timerSlack: string
}

/** Bytes of a mask of processors: NR_CPUS is at most 8,192. */
const MASK_SIZE = 1024

/** @throws {Error} if the task is gone, or is a kernel's own */
export function runningOf(tid: Tid): Running {
  const affinity = new Uint8Array(MASK_SIZE)
  check('sched_getaffinity', libcGetAffinity(tid, affinity.length, affinity))
  return {
    affinity,
    ioPriority: ioPriorityOf(tid),
    attr: childOf(schedGetattr(tid)),
    timerSlack: readFileSync(`/proc/${tid}/timerslack_ns`, 'latin1').trim(),
  }
}

/**
 * Lets a task run as another one does, but for a real-time policy, which the task does not get.
 *
 * @throws {Error} if the task is gone, or may not run on any of the processors
 */
export function runAs(tid: Tid, { affinity, ioPriority, attr, timerSlack }: Running): void {
  check('sched_setaffinity', libcSetAffinity(tid, affinity.length, affinity))
  setIoPriority(tid, ioPriority)
  const { policy } = decodeSchedAttr(attr)
  if (policy === SCHED.OTHER || policy === SCHED.BATCH || policy === SCHED.IDLE) schedSetattr(tid, attr)
  // A slack of 0 is of a real-time task, and would mean our own.
  if (timerSlack !== '0') writeFileSync(`/proc/${tid}/timerslack_ns`, timerSlack)
}
