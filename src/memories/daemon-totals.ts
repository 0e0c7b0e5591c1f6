/** Why an engine ended that was not told to. */
export const restartCauses = ['killed', 'crashed', 'failed', 'hung', 'unstartable'] as const
export type RestartCause = (typeof restartCauses)[number]
/** What became of a hand-over: a container that is served or left to the kernel, another process of it, or nothing. */
export const registrationResults = ['served', 'left', 'joined', 'refused'] as const
export const reloadResults = ['done', 'failed'] as const

/** What the daemon counts of itself, as the directory has it. Each member has the labels above and no others. */
export interface DaemonTotals {
  readonly version: string
  /** Whether metrics are to name containers. */
  readonly containerLabel: boolean
  /** Whether a user runs it: it takes no orders then. */
  readonly forUser: boolean
  /** The configuration that it reads if it is there; undefined of an older daemon, and of an `intercede run`. */
  readonly configPath?: string | undefined
  /** What a container may have at most; undefined of an older daemon. */
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
