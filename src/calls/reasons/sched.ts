import type { Sentences } from './sentences.ts'

/** Reasons of sched_setscheduler(2) and its family. */
export const sched = {
  invalidArguments: ['the arguments are not valid, and the kernel says what is wrong with them', ''],
  schedulingNotServed: [
    'the scheduling policy {a}, or a flag that came with it, is not given to containers',
    'use SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO or SCHED_RR',
  ],
  priorityTooHigh: [
    'the priority {a} is higher than {b}, the highest that the policy gives',
    'if the host can bear it, raise security.syscalls.intercept.sched_setscheduler.max_priority',
  ],
  scheduledByHost: [
    'the host has given the task a scheduling policy or a priority that the container may not give, so it may not change it',
    '',
  ],
  noSuchTask: ['there is no process or thread of this number in the pid namespace of the caller', ''],
  outsideContainer: ['the process or thread of this number does not belong to the container', ''],
  pidNotTranslated: [
    'this kernel does not translate process numbers of a container',
    'use Linux 6.11 or later; before it, a call about the calling process itself (number 0) is done',
  ],
  threadNotPinned: [
    'this kernel cannot keep hold of a single thread',
    'use Linux 6.9 or later; before it, only the first thread of a process is served',
  ],
} as const satisfies Sentences
