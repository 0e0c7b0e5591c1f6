export interface Limit {
  readonly usually: number
  readonly from: number
  readonly to: number
  /** A further condition beside the range. */
  readonly must?: string
  /** A value that an administrator might choose. */
  readonly example: number
  /** What is counted: completes the sentence "The most ...". */
  readonly what: string
  /** The comment beside the key in the help of `serve`. */
  readonly help: string
  /** What happens beyond the limit, in Markdown: completes the sentence "Beyond that, ...". */
  readonly reached: string
}

/** The limits that keep one container or client from using everything. */
export const LIMITS = {
  callsPerContainer: {
    what: 'calls of one container that are served at once',
    usually: 3,
    from: 1,
    to: 256,
    example: 8,
    help: 'calls of one container served at once; more wait',
    reached:
      'its calls wait, and the log says so at level debug. The first quarter millisecond of processor time of each call is free. A container whose calls use more than a tenth of a processor beyond that is limited to 1 call',
  },
  calls: {
    what: 'calls of all containers that are served at once, each by a thread',
    usually: 32,
    from: 8,
    to: 512,
    example: 64,
    help: 'calls of all containers served at once; more wait',
    reached:
      'calls wait. If none of the served calls ends for five seconds, they hang: then calls are left to the kernel, with the reason `containerBusy`, until one ends',
  },
  listenersPerContainer: {
    what: "listeners of one container. Each process that is exec'd into it has one while it runs",
    usually: 256,
    from: 1,
    to: 4096,
    example: 64,
    help: "each exec'd process has one; further ones are not served",
    reached:
      'the calls of further processes fail with ENOSYS, and the log says so. A container also gets at most a quarter of the listeners that others leave',
  },
  connections: {
    what: 'connections of runtimes and LXC monitors that have not handed over yet',
    usually: 2048,
    from: 1,
    to: 2048,
    example: 256,
    help: 'runtimes that have not handed over yet; more are refused',
    reached: 'the daemon refuses runtimes, and the log says so',
  },
  records: {
    what: 'records of calls, 256 bytes each, that wait for the log and that `intercede events` can still show',
    usually: 16_384,
    from: 1024,
    to: 1_048_576,
    must: 'a power of two',
    example: 65_536,
    help: 'calls kept for the log and for events; more displace the oldest',
    reached: 'the oldest are lost, and the log says how many',
  },
} as const satisfies Record<string, Limit>
export type LimitName = keyof typeof LIMITS
export type Limits = { readonly [K in LimitName]: number }

const usual = Object.fromEntries(Object.entries(LIMITS).map(([name, { usually }]) => [name, usually]))
/** The given limits, and the defaults for all others. */
export const effectiveLimits = (given: Partial<Limits> = {}): Limits => ({ ...(usual as unknown as Limits), ...given })
