import type { Difference } from './differences.ts'
import type { LimitCase } from './rlimits.ts'

/** What the engine does not do, by design: docs/guide/resource-limits.md. */
export const rlimitsDifferences: readonly Difference<LimitCase>[] = [
  {
    name: 'a hard limit above that of the list',
    why: 'That is what the list is for. With a bad pointer to the old limits, natively the call fails only afterwards.',
    wanted: true,
    covers: ({ ours, theirs, record }) =>
      ours === 'EPERM' && ['ok', 'EFAULT'].includes(theirs) && record?.reason === 'limitTooHigh',
  },
  {
    name: 'a limit that no list can have',
    why: 'It counts for a whole user namespace, or permits priorities.',
    wanted: true,
    covers: ({ ours, theirs, record }) =>
      ours === 'EPERM' && ['ok', 'EFAULT'].includes(theirs) && record?.reason === 'limitNeverServed',
  },
]
