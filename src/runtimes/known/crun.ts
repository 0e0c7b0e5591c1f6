import { SPEC_ALLOW, WAIT_KILLABLE_RECV } from '../../filter/target.ts'
import type { OciRuntime } from '../runtime.ts'

export const crun = {
  name: 'crun',
  target: {
    name: 'crun',
    // As of crun 1.21: without any flag crun sets SPEC_ALLOW itself; with flags it sets only those.
    program: 'crun',
    flags: [SPEC_ALLOW, WAIT_KILLABLE_RECV],
    resolvesGuards: false,
    // crun hands the listener over by a helper process that shares its descriptors, so any call may be trapped: it
    // waits a moment for the agent and is answered. test/runtimes/oci/lint.test.ts shows that for every call around
    // the hand-over.
    callsBeforeHandOver: [],
  },
  installed: { label: 'crun', program: 'crun', packages: ['crun'] },
  // Its change 1847 mends it.
  fault: {
    mended: '1.24',
    name: 'keeps the null device of the host',
    follows:
      "it gives a container's root the /dev/null that is a standard stream of the container: chmod there changes that of the host",
  },
  remedyForSignals: 'install a newer crun',
  leastMemoryMib: 1,
  copy: 'crun_cloned',
  sharedOptions: { values: ['--root', '--cgroup-manager'], words: ['--systemd-cgroup'] },
  record: { root: 'crun', file: 'status', init: 'pid' },
  sendsTerminal: true,
  // These errors come from src/libcrun/utils.c find_executable() and src/libcrun/container.c container_init().
  failures: [
    [/executable file .*not found|exec.*no such file or directory/i, 127],
    [/not executable|not a regular file|exec format error/i, 126],
  ],
} satisfies OciRuntime
