import { defineConfig } from 'vitest/config'
import { numberedTexts } from './test/support/numbered-texts.ts'
import { olderCheckout } from './test/support/older-kernel.ts'
import { SLOWNESS, slowTimeouts } from './test/support/slowness.ts'

/** What runs threads is tested in the build. */
const BUILT = 'test/support/fresh-build.ts'

/** These files compare times, or count what a loaded machine makes more of: nothing else may run beside them. */
const TIMED = [
  'test/attacks/api-clients.test.ts',
  'test/attacks/control-socket.test.ts',
  'test/attacks/ended-mounters.test.ts',
  'test/attacks/frozen-groups.test.ts',
  'test/attacks/fuse-programs.test.ts',
  'test/attacks/main-thread.test.ts',
  'test/attacks/many-groups.test.ts',
  'test/attacks/many-tmpfs.test.ts',
  'test/attacks/oom.test.ts',
  'test/attacks/readers.test.ts',
  'test/attacks/socket-fuzz.test.ts',
  'test/attacks/verifier.test.ts',
  'test/kernel/engine/first-times.test.ts',
  'test/kernel/engine/journal-cost.test.ts',
  'test/kernel/engine/lane.test.ts',
  'test/kernel/engine/storm.test.ts',
  'test/kernel/engine/stuck.test.ts',
  'test/kernel/engine/two-callers.test.ts',
  'test/kernel/keeper/events-flood.test.ts',
  'test/kernel/keeper/footprint.test.ts',
  'test/kernel/keeper/history-flood.test.ts',
  'test/kernel/keeper/many-containers.test.ts',
  'test/kernel/keeper/readers-time.test.ts',
  'test/kernel/keeper/reload.test.ts',
  'test/kernel/keeper/restart.test.ts',
  'test/kernel/mount/killed-mounts.test.ts',
  'test/kernel/paths/descriptors.test.ts',
  'test/kernel/sched/rt-priority.test.ts',
  'test/runtimes/podman/operate.test.ts',
  'test/runtimes/run/cold.test.ts',
  'test/runtimes/web/many.test.ts',
]

/** These files wait for clocks, loads and hangs, 10 s and more each: `npm test` leaves them out. */
const LONG = [
  'test/kernel/bpf/bpf-hostile.test.ts',
  'test/kernel/calls/process-caps.test.ts',
  'test/kernel/engine/dedicated-receiver.test.ts',
  'test/kernel/engine/engine-ends.test.ts',
  'test/kernel/engine/no-descriptors.test.ts',
  'test/kernel/engine/persistent-state.test.ts',
  'test/kernel/engine/signals.test.ts',
  'test/kernel/engine/suspend.test.ts',
  'test/kernel/engine/walker-time.test.ts',
  'test/kernel/keeper/upgrade.test.ts',
  'test/kernel/lxc/lxc-late.test.ts',
  'test/kernel/mount/mount.test.ts',
  'test/kernel/mount/mount-hang.test.ts',
  'test/kernel/sysinfo/uptime.test.ts',
]

/** These look at what the whole machine shares, such as mounts, memory and /run: nothing else may run beside them. */
const SHARING = [
  'test/kernel/mount/remount.test.ts',
  'test/kernel/mount/tmpfs.test.ts',
  'test/runtimes/all/docs.test.ts',
  'test/runtimes/run/nothing-left.test.ts',
]

/**
 * A busy machine runs the comparisons of filters for more than the usual five seconds. Files share their modules, which have
 * no state: to load them for each file takes as long as the tests.
 */
const UNIT = { include: ['test/unit/**/*.test.ts'], testTimeout: 30_000 * SLOWNESS, isolate: false }

/**
 * The unit tests once more with numbers for all messages and all texts of reasons: nothing else may change. Tests that
 * are about words say so in their names. Those of files, and a long one about filters alone, have no texts.
 */
const TEXTS = {
  ...UNIT,
  exclude: ['test/unit/*.test.ts', 'test/unit/filter/merged.test.ts'],
  setupFiles: 'test/support/any-message.ts',
  testNamePattern: /^(?!.*in words)/,
}

/** They run elsewhere. */
const LATER = [...TIMED, ...LONG, ...SHARING]

/** With INTERCEDE_LACKS=5.15 all runs from a copy, on this kernel, but without what that one lacks. */
const { INTERCEDE_LACKS: lacking } = process.env
const root = lacking ? olderCheckout(lacking) : import.meta.dirname

/** One file at a time, after all that may run in parallel. */
const ALONE = { fileParallelism: false }
const limits = (ms: number) => ({ testTimeout: ms * SLOWNESS, hookTimeout: ms * SLOWNESS })
const KERNEL = { globalSetup: BUILT, ...limits(60_000) }
const CONTAINERS = { globalSetup: BUILT, ...limits(120_000) }

/**
 * unit: pure, seconds; texts: most of these without words. kernel and long: the real kernel, as root. attacks: what a
 * hostile container does. runtimes: crun, runc, podman, LXC. timed, sharing and fuzz run after all of these, one file at a
 * time.
 */
const PROJECTS = [
  { name: 'unit', ...UNIT },
  { name: 'texts', ...TEXTS },
  { name: 'kernel', include: ['test/kernel/**/*.test.ts'], exclude: LATER, ...KERNEL },
  { name: 'long', include: LONG, ...CONTAINERS },
  { name: 'differential', include: ['test/differential/**/*.test.ts'], globalSetup: BUILT },
  { name: 'fidelity', include: ['test/fidelity/**/*.test.ts'], globalSetup: BUILT },
  { name: 'attacks', include: ['test/attacks/**/*.test.ts'], exclude: LATER, ...CONTAINERS },
  { name: 'runtimes', include: ['test/runtimes/**/*.test.ts'], exclude: LATER, ...CONTAINERS },
  { name: 'timed', include: TIMED, ...CONTAINERS, ...ALONE },
  { name: 'sharing', include: SHARING, ...CONTAINERS, ...ALONE },
  { name: 'fuzz', include: ['test/fuzz/**/*.test.ts'], globalSetup: BUILT, ...ALONE },
]

/** What .ci/run leaves out: vitest does not pass its option --exclude on to projects. */
const without = process.env.INTERCEDE_WITHOUT?.match(/\S+/g) ?? []

export default defineConfig({
  root,
  test: {
    maxWorkers: '100%',
    reporters: ['default', './scripts/test-times.js'],
    projects: PROJECTS.map((test) => ({
      plugins: [slowTimeouts(), ...(test.name === 'texts' ? [numberedTexts()] : [])],
      test: { ...test, exclude: [...('exclude' in test ? test.exclude : []), ...without] },
    })),
  },
})
