/** What is bounded, so that nobody can have all of it. */
export const LIMITS = {
  /** Calls of one container that are served at once: more wait. */
  callsPerContainer: { usually: 3, from: 1, to: 256 },
  /** Calls of all containers that are served at once, each by a thread: more are left to the kernel. */
  calls: { usually: 32, from: 8, to: 512 },
  /** Each process that is exec'd into a container has one as long as it runs: more are not served. */
  listenersPerContainer: { usually: 1024, from: 1, to: 4096 },
  /** Of runtimes, and of monitors of LXC, that have not handed over yet: more are refused. */
  connections: { usually: 2048, from: 1, to: 2048 },
  /** Of calls, of 256 bytes each, that wait for the log: of more the oldest are lost. */
  records: { usually: 16_384, from: 1024, to: 1_048_576 },
} as const
export type Limits = { readonly [K in keyof typeof LIMITS]: number }

const usual = Object.fromEntries(Object.entries(LIMITS).map(([name, { usually }]) => [name, usually]))
/** What holds where only some are given. */
export const effectiveLimits = (given: Partial<Limits> = {}): Limits => ({ ...(usual as unknown as Limits), ...given })
