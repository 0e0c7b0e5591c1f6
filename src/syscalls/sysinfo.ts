import type { Syscall } from '../calls/syscall.ts'
import { act, continueWith } from '../calls/verdict.ts'

/**
 * sysinfo(2): reports the container instead of the machine, to any of its tasks in any namespace, since it is no
 * secret.
 */
export const sysinfo: Syscall<bigint> = {
  name: 'sysinfo',
  key: 'sysinfo',
  trapped: 'all: its arguments say nothing',
  brief: true,
  screen: (_, policy) => (policy.sysinfo ? undefined : continueWith('keyOff')),
  decode: (args) => args.pointer(0),
  decide: (at, caller) => act({ verb: 'report', writes: [{ at, bytes: caller.systemInfo() }] }),
}
