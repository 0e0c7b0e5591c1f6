import type { Traps } from '../calls/rule.ts'

/**
 * Traps every call that sets a scheduling policy, whatever its arguments: the priority (and for sched_setattr(2) the
 * policy) is in memory, and even a policy that is not real-time needs CAP_SYS_NICE on a task of another user
 * (kernel/sched/syscalls.c user_check_sched_setscheduler()).
 */
export const schedTraps: Traps = ({ schedSetscheduler }) =>
  schedSetscheduler ? ['sched_setscheduler', 'sched_setparam', 'sched_setattr'].map((name) => ({ name })) : []
