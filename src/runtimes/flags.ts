import type { Cap } from '../abi/capability.ts'
import type { Target } from '../filter/target.ts'

/** What a container must have for its keys to work; who writes it down for a runtime only spells it. */
export interface Wanted {
  readonly caps: readonly Cap[]
  /** The file of `intercede profile`. */
  readonly profile: string
  /** The policy, for a runtime whose file cannot hold it. */
  readonly keys: readonly string[]
  /** What the container's author says beyond the administrator's file. */
  readonly annotations: readonly (readonly [key: string, value: string])[]
  /** The first id of the host that the container gets, for runtimes that do not choose it themselves. */
  readonly firstId: number
  /** Does the machine give containers of this runtime user namespaces? Only podman and Docker have to be told. */
  readonly prepared: boolean
  /** The container is one of a user, which has the user namespace of the daemon already. */
  readonly user: boolean
  /** Its FUSE programs need their device. */
  readonly fuse: boolean
  /** The socket of the daemon, if it is not the usual one; OCI runtimes have it from the profile. */
  readonly listener?: string | undefined
}

interface Flags {
  /** Options, one a line, or the lines of a file. */
  readonly lines: readonly string[]
  /** What those lines cannot say, and must be so. */
  readonly besides: readonly string[]
}

/** What `intercede flags` says for one runtime. */
export interface Instructions {
  /** Who reads the profile; undefined where that is a policy of LXC. */
  readonly target: Target | undefined
  /** Where its profiles usually lie. */
  readonly directory: string
  /** What their names end with. One for each runtime in a directory: the files of two differ in their filters and flags. */
  readonly ending: string
  /** The filter that the runtime would use without ours, where it lies in a file. */
  readonly base?: string
  /** What must stand in these files for containers to have user namespaces. */
  readonly prepared?: readonly (readonly [file: string, text: RegExp])[]
  /** Where the profiles of a user lie. Left out for a runtime whose containers of a user are not served. */
  userDirectory?(): string
  flags(wanted: Wanted): Flags
}

/** Every user of a container but nobody (65534) and overflow fits in. */
export const ID_COUNT = 65_536

export const options = (name: string, values: readonly string[]): readonly string[] =>
  values.map((value) => `--${name}=${value}`)

export const annotationsOf = ({ annotations }: Wanted): readonly string[] =>
  annotations.map(([key, value]) => `${key}=${value}`)

export const fuseDevice = ({ fuse }: Wanted): readonly string[] => (fuse ? ['--device=/dev/fuse'] : [])
