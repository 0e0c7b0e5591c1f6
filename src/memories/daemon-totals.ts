/** Why an engine ended without being told to. */
export const restartCauses = ['killed', 'crashed', 'failed', 'hung', 'unstartable'] as const
export type RestartCause = (typeof restartCauses)[number]
/**
 * The result of a hand-over: a container that is served or left to the kernel, another process of a container, or
 * nothing.
 */
export const registrationResults = ['served', 'left', 'joined', 'refused'] as const
export const reloadResults = ['done', 'failed'] as const

/** The daemon's own counters in the directory. Each member has the labels above and no others. */
export interface DaemonTotals {
  readonly version: string
  /** Whether metrics name containers. */
  readonly containerLabel: boolean
  /** Whether an unprivileged user runs it: then it takes no orders. */
  readonly forUser: boolean
  /** The configuration file that it reads if it exists; undefined for an older daemon, and for an `intercede run`. */
  readonly configPath?: string | undefined
  /** The limits of each container; undefined for an older daemon. */
  readonly limits?: Readonly<Record<'callsPerContainer' | 'listenersPerContainer' | 'kept', number>>
  /** Calls that are served for longer than ten seconds. */
  readonly stuck: number
  /** The processes that mount. */
  readonly mounters: readonly number[]
  readonly restarts: Readonly<Record<string, number>>
  /** By runtime and result, with a space between. */
  readonly registrations: Readonly<Record<string, number>>
  readonly reloads: Readonly<Record<string, number>>
  readonly recordsLost: number
  readonly linesSuppressed: number
}
