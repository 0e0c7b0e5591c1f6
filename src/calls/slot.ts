/**
 * The one table of calls in flight: it lies in a shared memfd, the kernel writes each notification straight into a slot,
 * and the table serves dispatch, the cap per container and, after a crash of the engine, the settling of what was open.
 *
 *   0 u8[80] struct seccomp_notif | 80 s32 state | 84 u32 listener | 88 u32 container | 92 u32 thread |
 *   96 f64 since (milliseconds since 1970)
 */
export const SLOT_SIZE = 128
export const SLOTS = 1024
export const SLOT = { notification: 0, state: 80, listener: 84, container: 88, thread: 92, since: 96 } as const

/** received: nothing was done yet; acting: the act has begun; acted: its result is there, the answer is not sent yet. */
export const STATE = { free: 0, received: 1, acting: 2, acted: 3 } as const
