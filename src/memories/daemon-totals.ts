/** Why an engine ended without being told to. */
export const restartCauses = ['killed', 'crashed', 'failed', 'hung', 'unstartable'] as const
export type RestartCause = (typeof restartCauses)[number]
/**
 * The result of a hand-over: a container that is served or left to the kernel, another process of a container, a
 * runtime that ended before it handed over (as when the program of an exec does not exist), or nothing.
 */
export const registrationResults = ['served', 'left', 'joined', 'abandoned', 'refused'] as const
/** Why a hand-over was refused. */
export const refusalCauses = ['failed', 'limit', 'notRoot', 'policy'] as const
export type RefusalCause = (typeof refusalCauses)[number]
export const reloadResults = ['done', 'failed'] as const

/** The daemon's own counters in the directory. Each member has the labels above and no others. */
export interface DaemonTotals {
  readonly version: string
  /** Whether metrics name containers. */
  readonly containerLabel: boolean
  /** Whether an unprivileged user runs it: then it takes no orders. */
  readonly forUser: boolean
  /** The configuration file that it reads if it exists; undefined for an `intercede run`. */
  readonly configPath?: string | undefined
  /** The directory with its history; absent if it keeps none. */
  readonly history?: string | undefined
  /** Why it keeps none although it should; absent otherwise. */
  readonly historyFlaw?: string | undefined
  /** How many lines of history could not be written lately; absent if it is written. */
  readonly historyLost?: number | undefined
  /** The limits of each container. */
  readonly limits: Readonly<Record<'callsPerContainer' | 'listenersPerContainer' | 'kept', number>>
  /** The last reload if it failed; absent otherwise. */
  readonly notReloaded?: { readonly time: number; readonly message: string } | undefined
  /** The engine that serves, and since when; absent while none does. Times are in milliseconds since 1970. */
  readonly engine?: number | undefined
  readonly engineSince?: number | undefined
  /** How many engines have served; absent while the daemon starts. */
  readonly engines?: number | undefined
  /** When the next engine is tried, if calls are left to the kernel until then; absent otherwise. */
  readonly nextEngine?: number | undefined
  /** Calls that are served for longer than ten seconds. */
  readonly stuck: number
  /** The processes that mount. */
  readonly mounters: readonly number[]
  readonly restarts: Readonly<Record<string, number>>
  /** By runtime, result and the cause of a refusal, with spaces between. */
  readonly registrations: Readonly<Record<string, number>>
  readonly reloads: Readonly<Record<string, number>>
  readonly recordsLost: number
  readonly linesSuppressed: number
}

const LABELS = 8
const OTHER = 'other'
const UNKNOWN = 'unknown'
const PLAIN = /^[A-Za-z0-9._-]{1,32}$/

/**
 * Turns names of runtimes into labels of metrics: the first few plain names get their own, all others share one label.
 */
export class FewLabels {
  readonly #known: Set<string>

  constructor(known: Iterable<string> = []) {
    this.#known = new Set(known)
  }

  /** @param name undefined, or null in JSON, if it is not known */
  labelOf(name: unknown): string {
    if (name === undefined || name === null) return UNKNOWN
    if (typeof name !== 'string' || !PLAIN.test(name)) return OTHER
    if (this.#known.size < LABELS) this.#known.add(name)
    return this.#known.has(name) ? name : OTHER
  }
}
