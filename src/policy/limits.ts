/** One of LIMITS. */
export interface Limit {
  readonly usually: number
  readonly from: number
  readonly to: number
  /** What is allowed beside the range. */
  readonly must?: string
  /** A value that an administrator may want. */
  readonly example: number
  /** What is counted. */
  readonly what: string
  /** The help of `serve` says this beside it. */
  readonly help: string
  /** The table of a page says this of what is counted, beside the name of the key. */
  readonly of?: string
  /** The pages say this, in Markdown, of what is more. */
  readonly reached: string
}

/** What is bounded, so that nobody can have all of it. */
export const LIMITS = {
  callsPerContainer: {
    what: 'calls of one container that are served at once',
    usually: 3,
    from: 1,
    to: 256,
    example: 8,
    help: 'served at once: more wait',
    reached:
      'further calls of that container wait, with a line in the log at level debug. It is 1 for a container whose calls take more than a tenth of a processor, not counting a quarter of a millisecond for each call',
  },
  calls: {
    what: 'calls of all containers that are served at once, each by a thread',
    usually: 32,
    from: 8,
    to: 512,
    example: 64,
    help: 'of all containers, each by a thread: more are left to the kernel',
    of: 'of all containers',
    reached: 'further calls are left to the kernel, with the reason `containerBusy`',
  },
  listenersPerContainer: {
    what: "listeners of one container: each process that is exec'd into it has one as long as it runs",
    usually: 256,
    from: 1,
    to: 4096,
    example: 64,
    help: "a process that is exec'd has one: more are not served",
    reached:
      "further processes exec'd into it are not served: their calls fail with ENOSYS, and the log says so. A container may get fewer: beyond two, at most a quarter of what is free",
  },
  connections: {
    what: 'connections of runtimes, and of monitors of LXC, that have not handed over yet',
    usually: 2048,
    from: 1,
    to: 2048,
    example: 256,
    help: 'that have not handed over yet: more are refused',
    of: 'of runtimes that have not handed over yet',
    reached: 'further ones are refused, and the log says so',
  },
  records: {
    what: 'records of calls, of 256 bytes each, that the log has not taken yet',
    usually: 16_384,
    from: 1024,
    to: 1_048_576,
    must: 'a power of two',
    example: 65_536,
    help: 'of calls that the log has not taken yet: of more the oldest are lost',
    of: 'of calls, 256 bytes each: those that a slow log has not taken yet, and that [`intercede events`](operating.md) can still show',
    reached: 'the oldest are lost, and the log says how many',
  },
} as const satisfies Record<string, Limit>
export type LimitName = keyof typeof LIMITS
export type Limits = { readonly [K in LimitName]: number }

const usual = Object.fromEntries(Object.entries(LIMITS).map(([name, { usually }]) => [name, usually]))
/** What holds where only some are given. */
export const effectiveLimits = (given: Partial<Limits> = {}): Limits => ({ ...(usual as unknown as Limits), ...given })
