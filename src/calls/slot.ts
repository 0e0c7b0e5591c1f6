/**
 * The layout of a slot of the journal. The table of slots is in a memfd shared by keeper and engines: the kernel writes
 * each notification straight into a slot, and after the end of an engine the next one finds the open calls there.
 *
 *   0 u8[80] struct seccomp_notif | 80 s32 state | 84 u32 listener | 88 u32 container | 92 u32 thread |
 *   96 f64 since (milliseconds since 1970) | 104 s64 value | 112 u32 errno | 116 u32 attempts | 120 u64 note
 *
 * listener and container are the keeper's numbers, which outlive an engine. value and errno are the result of an act;
 * note is what its verb noted before it acted; attempts counts the engines that failed while they served the call.
 *
 * Invariant: the leader takes slots, but for the last, which is the dedicated receiver's. A slot that is not free
 * belongs to the thread that took it, until that frees it. While there is no engine, all slots are the keeper's.
 */
export const SLOT_SIZE = 128
export const SLOTS = 1024
export const SLOT = {
  notification: 0,
  state: 80,
  listener: 84,
  container: 88,
  thread: 92,
  since: 96,
  value: 104,
  errno: 112,
  attempts: 116,
  note: 120,
} as const

/**
 * The states of a slot. receiving: the kernel may have written a notification, or not yet; received: nothing was done
 * yet; acting: the act has begun; acted: the result is stored, but the answer may not have been sent yet.
 *
 *   free -> receiving       Slots.take(), Slots.takeLast()
 *   receiving -> received   Slots.receive()
 *   receiving -> free       DedicatedReceiver.receive(), and the leader: there was no notification
 *   received -> free        Server.screen(), Server.continue(), Server.serve(): the call is answered, or has gone
 *   received -> acting      Server.serve()
 *   acting -> acted         Slots.settle()
 *   acting -> free          Server.serve(): the act failed, or its results go to the caller together with the answer
 *   acted -> free           Server.serve(): the call is answered, or has gone
 *
 * When an engine ends, its slots stay as they are. The next engine goes on from there: Server.settle() answers what
 * needs no look at the caller, Server.serve() does the rest. Without an engine, PassThrough.start() of the keeper
 * answers all.
 */
export const STATE = { free: 0, received: 1, acting: 2, acted: 3, receiving: 4 } as const
