import { SPEC_ALLOW, WAIT_KILLABLE_RECV } from '../../filter/target.ts'
import type { OciRuntime } from '../runtime.ts'

export const crun = {
  name: 'crun',
  target: {
    name: 'crun',
    // Checked with crun 1.21: without any flag it sets SPEC_ALLOW itself, with one only those named.
    flags: [SPEC_ALLOW, WAIT_KILLABLE_RECV],
    resolvesGuards: false,
    // It hands over by a helper that shares its descriptors: whatever is trapped waits for the agent for a moment and is
    // answered. test/runtimes/oci/lint.test.ts shows that for every call that it makes around the hand-over.
    callsBeforeHandOver: [],
  },
  installed: { label: 'crun', program: 'crun', packages: ['crun'] },
  remedyForSignals: 'install a newer crun',
  copy: 'crun_cloned',
  sharedOptions: { values: ['--root', '--cgroup-manager'], words: ['--systemd-cgroup'] },
  record: { root: 'crun', file: 'status', init: 'pid' },
  sendsTerminal: true,
  // src/libcrun/utils.c find_executable(), src/libcrun/container.c container_init()
  failures: [
    [/executable file .*not found|exec.*no such file or directory/i, 127],
    [/not executable|not a regular file|exec format error/i, 126],
  ],
} satisfies OciRuntime
