import type { OciRuntime } from '../runtime.ts'

export const runc = {
  name: 'runc',
  target: {
    name: 'runc',
    program: 'runc',
    // runc 1.1.15 refuses a profile with any flag ("seccomp flags are not yet supported by runc"); 1.2 knows some, and
    // 1.5 is the first to know WAIT_KILLABLE_RECV (its change 5172).
    flags: [],
    resolvesGuards: false,
    // The filtered task sends the listener's number to its parent by write(2). runc itself refuses a profile that
    // traps it, but only when a container starts. The parent takes the listener out of the task, so all other calls
    // may be trapped: test/runtimes/oci/lint.test.ts shows that for every call around the hand-over.
    // (libcontainer/seccomp/seccomp_linux.go InitSeccomp())
    callsBeforeHandOver: ['write'],
  },
  installed: { label: 'runc', program: 'runc', packages: ['runc'] },
  remedyForSignals: 'use crun',
  // Measured with runc 1.1.15, whose init is a program in Go: 14 MiB are too few.
  leastMemoryMib: 16,
  copy: 'runc_cloned',
  sharedOptions: { values: ['--root', '--rootless'], words: ['--systemd-cgroup'] },
  record: { root: 'runc', file: 'state.json', init: 'init_process_pid' },
  // runc sends its terminal to the console socket only with --detach.
  sendsTerminal: false,
  // These errors come from Go's exec.LookPath(), and from execve(2) in libcontainer/standard_init_linux.go.
  failures: [
    [/executable file .*not found|exec.*no such file or directory/i, 127],
    [/exec: ".*": |exec format error/i, 126],
  ],
} satisfies OciRuntime
