import type { ReasonCode } from '../../src/calls/reasons.ts'
import type { Mismatch } from './compare.ts'
import type { Difference } from './differences.ts'
import type { SchedCase } from './sched.ts'

const SCHED_FLAG_SUGOV = 0x1000_0000

/**
 * What the kernel says only to those who have the privilege: EOPNOTSUPP to a clamp where it has none, EBUSY to
 * SCHED_DEADLINE where all of a processor is reserved already.
 */
const PRIVILEGED: ReadonlySet<string> = new Set(['ok', 'EOPNOTSUPP', 'EBUSY'])
const refused = ({ ours, theirs, record }: Mismatch<SchedCase>, reason: ReasonCode): boolean =>
  ours === 'EPERM' && PRIVILEGED.has(theirs) && record?.reason === reason

/** What the engine does not do, by design: docs/guide/scheduling.md. */
export const schedDifferences: readonly Difference<SchedCase>[] = [
  {
    name: 'a priority above the highest of the policy',
    why: 'That is what max_priority is for.',
    wanted: true,
    covers: (mismatch) => refused(mismatch, 'priorityTooHigh'),
  },
  {
    name: 'a nice value below the lowest of the policy',
    why: 'That is what min_nice is for. To a user that is root natively, the kernel says EACCES, and EPERM of another one.',
    wanted: true,
    covers: ({ ours, theirs, record }) =>
      ['EACCES', 'EPERM'].includes(ours) && theirs === 'ok' && record?.reason === 'niceTooLow',
  },
  {
    name: 'the real-time class of I/O for what there is not',
    why: 'The kernel, which answers, asks for the capability first.',
    wanted: true,
    covers: ({ ours, theirs, record }) =>
      ours === 'EPERM' &&
      ((theirs === 'ESRCH' && record?.reason === 'noSuchTask') ||
        (theirs === 'EINVAL' && record?.reason === 'severalTasks')),
  },
  {
    name: 'SCHED_DEADLINE',
    why: 'It could take a processor for itself.',
    wanted: true,
    covers: (mismatch) => refused(mismatch, 'schedulingNotServed') && mismatch.trial.case.asked.policy === 6,
  },
  {
    name: 'a task to which the host gave more than max_priority',
    why: 'To change a part of that would carry the rest on.',
    wanted: true,
    covers: (mismatch) => refused(mismatch, 'scheduledByHost'),
  },
  {
    name: 'a flag that is for the kernel alone',
    why: 'EINVAL for whoever has the privilege; it is not even handed on.',
    wanted: true,
    covers: ({ ours, theirs, trial }) =>
      ours === 'EPERM' && theirs === 'EINVAL' && (trial.case.attr.flags & SCHED_FLAG_SUGOV) !== 0,
  },
]
