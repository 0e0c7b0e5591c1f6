/**
 * The `linux.seccomp` object of the OCI runtime specification, or a profile of podman or Docker, whose format adds
 * `archMap` and the guards of rules.
 *
 * @see opencontainers/runtime-spec config-linux.md, containers/common pkg/seccomp/types.go
 */
export interface OciSeccomp {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number
  readonly defaultErrno?: string
  readonly architectures?: readonly string[]
  readonly archMap?: readonly { readonly architecture: string; readonly subArchitectures: readonly string[] | null }[]
  readonly flags?: readonly string[]
  readonly listenerPath?: string
  readonly listenerMetadata?: string
  readonly syscalls?: readonly OciRule[]
}

export interface OciRule {
  readonly names: readonly string[]
  readonly action: string
  readonly errnoRet?: number
  readonly errno?: string
  readonly args?: readonly OciArg[] | null
  readonly comment?: string
  readonly includes?: OciGuard
  readonly excludes?: OciGuard
}

/**
 * A condition on one argument. For SCMP_CMP_MASKED_EQ `value` is the mask, and `valueTwo` what the masked argument
 * must be.
 */
export interface OciArg {
  readonly index: number
  readonly value: number | bigint
  readonly valueTwo?: number | bigint
  readonly op: string
}

/** The conditions under which a rule is used; container engines resolve them, OCI runtimes do not know them. */
export interface OciGuard {
  readonly caps?: readonly string[] | null
  readonly arches?: readonly string[] | null
  readonly minKernel?: string
}

export const ALLOW = 'SCMP_ACT_ALLOW'
export const NOTIFY = 'SCMP_ACT_NOTIFY'

/** Formats a profile, or an object with one, as JSON, with exact 64-bit values beyond those of a JavaScript number. */
export const formatProfile = (profile: object): string => {
  const marked = JSON.stringify(profile, (_, value) => (typeof value === 'bigint' ? `\u0000${value}` : value), 2)
  return `${marked.replace(/"\\u0000(\d+)"/g, '$1')}\n`
}
