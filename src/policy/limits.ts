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
      'further calls of that container wait; said in the log at level debug. It is 1 for a container whose calls take more than a tenth of a processor, beyond the quarter of a millisecond that each may take',
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
      "further processes that are exec'd into it are not served: their calls fail with ENOSYS; said in the log. Less may be there: a container gets at most a quarter of what others have left",
  },
  connections: {
    what: 'connections of runtimes, and of monitors of LXC, that have not handed over yet',
    usually: 2048,
    from: 1,
    to: 2048,
    example: 256,
    help: 'that have not handed over yet: more are refused',
    of: 'of runtimes that have not handed over yet',
    reached: 'further ones are refused, and that is said in the log',
  },
  records: {
    what: 'records of calls, of 256 bytes each, that the log has not taken yet',
    usually: 16_384,
    from: 1024,
    to: 1_048_576,
    must: 'a power of two',
    example: 65_536,
    help: 'of calls that the log has not taken yet: of more the oldest are lost',
    of: 'of calls, 256 bytes each, that a slow log has not taken yet, and that [`intercede events`](operating.md) can still show',
    reached: 'the oldest are lost, and how many is said in the log',
  },
} as const satisfies Record<string, Limit>
export type LimitName = keyof typeof LIMITS
export type Limits = { readonly [K in LimitName]: number }

const usual = Object.fromEntries(Object.entries(LIMITS).map(([name, { usually }]) => [name, usually]))
/** What holds where only some are given. */
export const effectiveLimits = (given: Partial<Limits> = {}): Limits => ({ ...(usual as unknown as Limits), ...given })
