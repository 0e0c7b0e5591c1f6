/**
 * `linux.seccomp` of the OCI runtime specification, and the format of podman's and Docker's profiles, which adds
 * `archMap` and the guards of a rule.
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

/** `value` is the mask of SCMP_CMP_MASKED_EQ, `valueTwo` what the masked argument must be. */
export interface OciArg {
  readonly index: number
  readonly value: number | bigint
  readonly valueTwo?: number | bigint
  readonly op: string
}

/** Under which circumstances a rule is used at all; resolved by the container engine, unknown to a runtime. */
export interface OciGuard {
  readonly caps?: readonly string[] | null
  readonly arches?: readonly string[] | null
  readonly minKernel?: string
}

export const ALLOW = 'SCMP_ACT_ALLOW'
export const NOTIFY = 'SCMP_ACT_NOTIFY'

/** JSON in which the 64-bit values that a JavaScript number cannot hold are exact. */
export const formatProfile = (profile: OciSeccomp): string => {
  const marked = JSON.stringify(profile, (_, value) => (typeof value === 'bigint' ? `\u0000${value}` : value), 2)
  return `${marked.replace(/"\\u0000(\d+)"/g, '$1')}\n`
}
