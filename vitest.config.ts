import { defineConfig } from 'vitest/config'

/** What runs threads is tested in the build. */
const BUILT = 'test/support/fresh-build.ts'

/** unit: pure, seconds. kernel: the real kernel, as root. attacks: what a hostile container does. runtimes: crun, runc, podman, one file at a time. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          // A busy machine runs the comparisons of filters for more than the usual five seconds.
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'kernel',
          globalSetup: BUILT,
          include: ['test/kernel/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      { test: { name: 'differential', globalSetup: BUILT, include: ['test/differential/**/*.test.ts'] } },
      { test: { name: 'fuzz', globalSetup: BUILT, include: ['test/fuzz/**/*.test.ts'], fileParallelism: false } },
      {
        test: {
          name: 'attacks',
          globalSetup: BUILT,
          include: ['test/attacks/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'runtimes',
          globalSetup: BUILT,
          include: ['test/runtimes/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
})
