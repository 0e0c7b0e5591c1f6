/** Scheduling policies, linux/include/uapi/linux/sched.h. */
export const SCHED = { OTHER: 0, FIFO: 1, RR: 2, BATCH: 3, IDLE: 5, DEADLINE: 6, EXT: 7 } as const
/** MAX_RT_PRIO - 1, linux/sched/prio.h. */
export const RT_PRIORITY_MAX = 99
/** linux/sched/prio.h; setpriority(2) takes what is beyond for these. */
export const MIN_NICE = -20
export const MAX_NICE = 19

/** Whom setpriority(2), sys/resource.h, and ioprio_set(2), linux/ioprio.h, mean. */
export const PRIO = { PROCESS: 0, PGRP: 1, USER: 2 } as const
export const IOPRIO_WHO = { PROCESS: 1, PGRP: 2, USER: 3 } as const
export const IOPRIO_CLASS = { NONE: 0, RT: 1, BE: 2, IDLE: 3 } as const

/** Not a policy of its own: sched_setscheduler(2) takes it together with one. */
export const SCHED_RESET_ON_FORK = 0x4000_0000

export const SCHED_FLAG = {
  RESET_ON_FORK: 0x01,
  RECLAIM: 0x02,
  DL_OVERRUN: 0x04,
  KEEP_POLICY: 0x08,
  KEEP_PARAMS: 0x10,
  UTIL_CLAMP_MIN: 0x20,
  UTIL_CLAMP_MAX: 0x40,
} as const

/** The first form of `struct sched_attr`, and the one with the two utilization clamps (5.3). */
export const SCHED_ATTR_SIZE_VER0 = 48
export const SCHED_ATTR_SIZE_VER1 = 56
/** Larger ones the kernel does not even read. */
export const SCHED_ATTR_LIMIT = 4096

/** The part of `struct sched_attr` that decides whether a call is served. */
export interface SchedAttr {
  readonly policy: number
  readonly flags: bigint
  readonly priority: number
}

/**
 * Reads `struct sched_attr`, little endian, the same for programs of 32 bits.
 *
 *   0 u32 size | 4 u32 policy | 8 u64 flags | 16 s32 nice | 20 u32 priority | 24 u64 runtime | 32 u64 deadline |
 *   40 u64 period | 48 u32 util_min | 52 u32 util_max
 *
 * @param bytes at least SCHED_ATTR_SIZE_VER0 of them
 * @see sched_setattr(2)
 */
export function decodeSchedAttr(bytes: Uint8Array): SchedAttr {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return { policy: view.getUint32(4, true), flags: view.getBigUint64(8, true), priority: view.getUint32(20, true) }
}

/** Returns the nice value in a `struct sched_attr`. */
export const niceIn = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getInt32(16, true)

const NORMAL_NICE = 0

/** A policy with a priority and flags, and nothing else, in the first form. */
export function encodeSchedAttr({ policy, flags, priority }: SchedAttr): Uint8Array {
  const bytes = new Uint8Array(SCHED_ATTR_SIZE_VER0)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, SCHED_ATTR_SIZE_VER0, true)
  view.setUint32(4, policy, true)
  view.setBigUint64(8, flags, true)
  view.setUint32(20, priority, true)
  return bytes
}

/**
 * What a child inherits of a task with these attributes.
 *
 * @see linux/kernel/sched/core.c sched_fork()
 */
export function childOf(parent: Uint8Array): Uint8Array {
  const { policy, flags } = decodeSchedAttr(parent)
  if ((flags & BigInt(SCHED_FLAG.RESET_ON_FORK)) === 0n) return parent.slice()
  const realtime = policy === SCHED.FIFO || policy === SCHED.RR || policy === SCHED.DEADLINE
  const child = encodeSchedAttr({ policy: realtime ? SCHED.OTHER : policy, flags: 0n, priority: 0 })
  const nice = niceIn(parent)
  new DataView(child.buffer).setInt32(16, realtime ? NORMAL_NICE : Math.max(nice, NORMAL_NICE), true)
  return child
}
