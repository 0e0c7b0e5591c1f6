import { NOTIFY, type OciSeccomp } from './oci.ts'

/**
 * What a runtime may call itself, in the filtered task, after it has loaded the filter and before the agent has the
 * listener: trapped, such a call waits for an agent that waits for the runtime. Seen under strace: runc writes the number
 * of the descriptor and reads the answer (and refuses `write` itself), with the calls of the Go scheduler in between; crun
 * waits for a helper that sends. Other versions and agents send from the task itself.
 */
const beforeHandOver: ReadonlySet<string> = new Set([
  ...['sendmsg', 'sendto', 'write', 'read', 'close', 'fcntl', 'dup', 'dup3', 'kill', 'wait4', 'waitid', 'exit_group'],
  ...[
    'futex',
    'nanosleep',
    'clock_nanosleep',
    'sched_yield',
    'epoll_ctl',
    'epoll_pwait',
    'epoll_wait',
    'ppoll',
    'poll',
  ],
  ...['mmap', 'munmap', 'madvise', 'mprotect', 'brk', 'clone', 'clone3', 'getpid', 'gettid', 'tgkill'],
  ...['rt_sigaction', 'rt_sigprocmask', 'rt_sigreturn', 'sigaltstack', 'restart_syscall', 'prctl', 'seccomp'],
])

/**
 * Says what of a base profile would hang a runtime, or give to us what is meant for somebody else.
 *
 * @param listenerPath ours
 * @returns one sentence a finding
 */
export function lintProfile(profile: OciSeccomp, listenerPath?: string): readonly string[] {
  const notified = (profile.syscalls ?? []).filter(({ action }) => action === NOTIFY).flatMap(({ names }) => names)
  const hanging = [...new Set(notified)].filter((name) => beforeHandOver.has(name))
  const other = profile.listenerPath
  return [
    ...(profile.defaultAction === NOTIFY
      ? ['the default action must not be SCMP_ACT_NOTIFY, it hangs the runtime']
      : []),
    ...hanging.map((name) => `SCMP_ACT_NOTIFY for ${name} hangs the runtime before it can hand over the listener`),
    ...(other !== undefined && other !== listenerPath
      ? [`its listenerPath ${JSON.stringify(other)} is another agent's, and a container has one agent`]
      : []),
  ]
}
