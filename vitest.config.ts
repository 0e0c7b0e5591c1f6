import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** What runs threads is tested in the build. */
const BUILT = 'test/support/fresh-build.ts'

/** These files compare times, or count what a loaded machine makes more of: nothing else may run beside them. */
const TIMED = [
  'test/attacks/api-clients.test.ts',
  'test/attacks/control-socket.test.ts',
  'test/attacks/ended-mounters.test.ts',
  'test/attacks/frozen-groups.test.ts',
  'test/attacks/main-thread.test.ts',
  'test/attacks/many-groups.test.ts',
  'test/attacks/oom.test.ts',
  'test/attacks/readers.test.ts',
  'test/attacks/socket-fuzz.test.ts',
  'test/attacks/verifier.test.ts',
  'test/kernel/calls/process-caps.test.ts',
  'test/kernel/engine/dedicated-receiver.test.ts',
  'test/kernel/engine/first-times.test.ts',
  'test/kernel/engine/journal-cost.test.ts',
  'test/kernel/engine/journal-race.test.ts',
  'test/kernel/engine/lane.test.ts',
  'test/kernel/engine/storm.test.ts',
  'test/kernel/engine/stuck.test.ts',
  'test/kernel/engine/walker-time.test.ts',
  'test/kernel/keeper/events-flood.test.ts',
  'test/kernel/keeper/footprint.test.ts',
  'test/kernel/keeper/many-containers.test.ts',
  'test/kernel/keeper/readers-time.test.ts',
  'test/kernel/keeper/reload.test.ts',
  'test/kernel/keeper/restart.test.ts',
  'test/kernel/mount/killed-mounts.test.ts',
  'test/kernel/paths/descriptors.test.ts',
  'test/kernel/sched/rt-priority.test.ts',
  'test/runtimes/podman/operate.test.ts',
  'test/runtimes/run/cold.test.ts',
  'test/runtimes/run/late-engine.test.ts',
  'test/runtimes/systemd/events.test.ts',
]

/** These files look at what all containers of the machine share: /run/intercede, the host's mounts, Docker's and podman's own state. */
const SHARING = [
  'test/runtimes/all/docs.test.ts',
  'test/runtimes/run/nothing-left.test.ts',
  'test/runtimes/run/run.test.ts',
]

/** These files wait for clocks, loads and hangs, 10 s and more each: `npm test` leaves them out. */
const LONG = [
  'test/kernel/bpf/bpf-hostile.test.ts',
  'test/kernel/engine/engine-ends.test.ts',
  'test/kernel/engine/no-descriptors.test.ts',
  'test/kernel/engine/persistent-state.test.ts',
  'test/kernel/engine/signals.test.ts',
  'test/kernel/engine/suspend.test.ts',
  'test/kernel/lxc/lxc-late.test.ts',
  'test/kernel/mount/mount.test.ts',
  'test/kernel/mount/mount-hang.test.ts',
  'test/kernel/sysinfo/uptime.test.ts',
]

/** One file at a time, after all that may run in parallel. */
const ALONE = { fileParallelism: false }
const LATER = [...TIMED, ...LONG, ...SHARING]
const KERNEL = { globalSetup: BUILT, testTimeout: 60_000, hookTimeout: 60_000 }
const CONTAINERS = { globalSetup: BUILT, testTimeout: 120_000, hookTimeout: 120_000 }

/**
 * unit: pure, seconds. kernel and long: the real kernel, as root. attacks: what a hostile container does. runtimes: crun, runc,
 * podman, LXC. timed, sharing and fuzz are their files that run alone, after all that may run in parallel.
 */
export default defineConfig({
  test: {
    // One more than there are processors: some files wait for clocks.
    maxWorkers: availableParallelism() + 1,
    reporters: ['default', './scripts/test-times.js'],
    projects: [
      // A busy machine runs the comparisons of filters for more than the usual five seconds.
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 30_000 } },
      { test: { name: 'kernel', include: ['test/kernel/**/*.test.ts'], exclude: LATER, ...KERNEL } },
      { test: { name: 'long', include: LONG, ...KERNEL } },
      { test: { name: 'differential', include: ['test/differential/**/*.test.ts'], globalSetup: BUILT } },
      { test: { name: 'fidelity', include: ['test/fidelity/**/*.test.ts'], globalSetup: BUILT } },
      { test: { name: 'attacks', include: ['test/attacks/**/*.test.ts'], exclude: LATER, ...CONTAINERS } },
      { test: { name: 'runtimes', include: ['test/runtimes/**/*.test.ts'], exclude: LATER, ...CONTAINERS } },
      { test: { name: 'timed', include: TIMED, ...CONTAINERS, ...ALONE } },
      { test: { name: 'sharing', include: SHARING, ...CONTAINERS, ...ALONE } },
      { test: { name: 'fuzz', include: ['test/fuzz/**/*.test.ts'], globalSetup: BUILT, ...ALONE } },
    ],
  },
})
