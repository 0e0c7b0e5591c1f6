import type { Tid } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { encodeLimit, type ResourceLimit } from '../abi/rlimit.ts'
import type { Verb, Verbs } from '../calls/act.ts'
import { steps } from '../calls/steps.ts'
import { ignoring, SyscallError } from '../kernel/error.ts'
import { pidfdIsAlive } from '../kernel/pidfd.ts'
import { limitOf, setLimit } from '../kernel/rlimit.ts'

export const limit: Verb<Verbs['limit']> = {
  steps: [steps.limit],
  safe:
    "Only a process in the container's pid namespace, and in its initial user namespace or below, gets other limits: " +
    "never a hard one above the administrator's list, and never one that is counted for a whole user namespace or that " +
    'permits a priority. Before and after, the descriptor of the process must confirm that it still has the number ' +
    'that the kernel takes. If it died in between, a process that got its number gets back the limits that it had.',
  run({ task, resource, limit: to, old }, caller) {
    const before = caller.act(steps.limit, () => {
      if (!pidfdIsAlive(task.pidfd)) throw new SyscallError('prlimit64', errno('ESRCH'))
      const was = setLimit(task.tid, resource, to)
      if (pidfdIsAlive(task.pidfd)) return was
      takeBack(task.tid, resource, to, was)
      throw new SyscallError('prlimit64', errno('ESRCH'))
    })
    return { value: 0n, writes: old === 0n ? [] : [{ at: old, bytes: encodeLimit(before) }] }
  },
}

/**
 * Undoes the act if it changed the limits of a new process that got the number within the few instructions around it.
 * The kernel has told what that process had. If it shows other limits, it has set its own since.
 *
 * @param newTask the number, which now belongs to another task or to none
 */
export function takeBack(newTask: Tid, resource: number, to: ResourceLimit, was: ResourceLimit): void {
  // Perhaps no task has the number any more.
  ignoring(['ESRCH'], () => {
    const now = limitOf(newTask, resource)
    if (now.soft === to.soft && now.hard === to.hard) setLimit(newTask, resource, was)
  })
}
