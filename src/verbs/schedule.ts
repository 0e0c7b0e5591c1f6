import type { Tid } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { childOf, decodeSchedAttr, niceIn, SCHED_FLAG, SCHED_RESET_ON_FORK } from '../abi/sched.ts'
import type { Scheduling, Verb, Verbs } from '../calls/act.ts'
import { steps } from '../calls/steps.ts'
import { ignoring, SyscallError } from '../kernel/error.ts'
import { pidfdIsAlive } from '../kernel/pidfd.ts'
import { forkedBy } from '../kernel/process.ts'
import {
  ioPriorityOf,
  schedGetattr,
  schedSetattr,
  schedSetparam,
  schedSetscheduler,
  setIoPriority,
  setNice,
} from '../kernel/sched.ts'

export const schedule: Verb<Verbs['schedule']> = {
  steps: [steps.schedule],
  safe:
    "Only a task in the container's pid namespace, and in its initial user namespace or below, gets another " +
    "policy or priority: never SCHED_DEADLINE, and nothing above the administrator's limits. Before and " +
    "after, the task's descriptor must confirm that the task still has the number that the kernel takes. If it died in " +
    'between, a task that got its number gets back what it inherited.',
  run({ task, to }, caller) {
    caller.act(steps.schedule, () => {
      if (!pidfdIsAlive(task.pidfd)) throw new SyscallError(to.by, errno('ESRCH'))
      apply(task.tid, to)
      if (pidfdIsAlive(task.pidfd)) return
      takeBack(task.tid, to)
      throw new SyscallError(to.by, errno('ESRCH'))
    })
    return { value: 0n }
  },
}

function apply(tid: Tid, to: Scheduling): void {
  if (to.by === 'sched_setscheduler') schedSetscheduler(tid, to.policy, to.priority)
  else if (to.by === 'sched_setparam') schedSetparam(tid, to.priority)
  else if (to.by === 'setpriority') setNice(tid, to.nice)
  else if (to.by === 'ioprio_set') setIoPriority(tid, to.ioprio)
  else schedSetattr(tid, to.attr)
}

/**
 * Undoes the act if it may have changed a new task that got the number within the few instructions around the act.
 * This task is younger than the act, so it should have what it inherited. If it shows other values than those
 * requested, the act did not change it.
 *
 * @param newTask the number, which now belongs to another task or to none
 */
export function takeBack(newTask: Tid, to: Scheduling): void {
  // Perhaps no task has the number any more.
  ignoring(['ESRCH', 'ENOENT'], () => {
    if (to.by === 'ioprio_set') {
      if (ioPriorityOf(newTask) === to.ioprio) setIoPriority(newTask, ioPriorityOf(forkedBy(newTask)))
    } else if (shows(schedGetattr(newTask), to)) schedSetattr(newTask, childOf(schedGetattr(forkedBy(newTask))))
  })
}

function shows(attr: Uint8Array, to: Exclude<Scheduling, { readonly by: 'ioprio_set' }>): boolean {
  if (to.by === 'setpriority') return niceIn(attr) === to.nice
  const now = decodeSchedAttr(attr)
  const { policy = now.policy, priority = now.priority } = askedFor(to)
  return now.priority === priority && now.policy === policy
}

/** The values that the call changes. */
function askedFor(to: Exclude<Scheduling, { readonly by: 'setpriority' | 'ioprio_set' }>): {
  readonly policy?: number
  readonly priority?: number
} {
  if (to.by === 'sched_setparam') return to
  if (to.by === 'sched_setscheduler') return { policy: to.policy & ~SCHED_RESET_ON_FORK, priority: to.priority }
  const { policy, priority, flags } = decodeSchedAttr(to.attr)
  // With KEEP_PARAMS the kernel ignores both: linux/kernel/sched/syscalls.c __setscheduler_params()
  if ((flags & BigInt(SCHED_FLAG.KEEP_PARAMS)) !== 0n) return {}
  return (flags & BigInt(SCHED_FLAG.KEEP_POLICY)) === 0n ? { policy, priority } : { priority }
}
