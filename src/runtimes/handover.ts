import * as v from 'valibot'

/** What a runtime says of a container when it hands over a listener. */
export interface Handover {
  readonly id: string
  /** The directory in which the runtime keeps the container, see `stateDirectoryOf`; absent if it is not known. */
  readonly place?: string
  /**
   * True in the OCI state "creating": the listener is the init's. False for a process exec'd into the container, and
   * for LXC.
   */
  readonly creating: boolean
  /**
   * LXC only: `pid` is the init, which runs programs of the container already. Each connection of a monitor names it,
   * so it tells whether the container is known.
   */
  readonly isLate?: boolean
  /** LXC only: the configuration of the container, below the root directory of its monitor. */
  readonly lxcConfig?: { readonly root: string; readonly file: string }
  /** The process that installed the filter; 0 if the runtime does not say, or is in another pid namespace. */
  readonly pid: number
  readonly bundle: string
  readonly annotations: Readonly<Record<string, string>>
  /** How many more annotations had names that look like keys of ours, and were left out. */
  readonly unknownAnnotations?: number
  /** `listenerMetadata` of the profile, which only an administrator can write. */
  readonly metadata: string
}

/** A runtime ended without a hand-over, as when the program of an exec does not exist. */
export class AbandonedError extends Error {
  override readonly name = 'AbandonedError'
}

/** crun 1.21 sends 0 for a process that it execs, whose number it does not know yet. */
const pid = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0x7fff_ffff))

/** The `containerProcessState` of the OCI runtime specification. Its version is ignored, since crun sends 0.2.0. */
const ContainerProcessState = v.object({
  fds: v.array(v.string()),
  pid,
  metadata: v.optional(v.string(), ''),
  state: v.object({
    id: v.pipe(v.string(), v.minLength(1), v.maxLength(1024)),
    status: v.string(),
    bundle: v.optional(v.string(), ''),
    annotations: v.optional(v.record(v.string(), v.string()), {}),
  }),
})

/**
 * Parses what an OCI runtime sends with the listener.
 *
 * @returns the hand-over, and the index of the listener among the descriptors
 * @throws {Error} that says what is wrong with it
 * @see https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#containerprocessstate
 */
export function parseHandover(text: string): { readonly handover: Handover; readonly fd: number } {
  const result = v.safeParse(ContainerProcessState, json(text))
  if (!result.success) {
    const [issue] = result.issues
    throw new Error(`Cannot read container process state: ${v.getDotPath(issue) ?? 'the whole'}: ${issue.message}`)
  }
  const { fds, pid, metadata, state } = result.output
  const fd = fds.indexOf('seccompFd')
  if (fd < 0) throw new Error('Cannot read container process state: no descriptor is called seccompFd')
  const { id, status, bundle, annotations } = state
  if (pid === 0 && status === 'creating') throw new Error(`Cannot take the listener of ${id}: its init has no pid`)
  return { handover: { id, creating: status === 'creating', pid, bundle, annotations, metadata }, fd }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Error('Cannot read container process state: not JSON')
  }
}
