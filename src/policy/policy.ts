import type { Dev } from '../abi/brand.ts'

/**
 * What may be done for one container, parsed once from `security.syscalls.intercept.*` (policy/). An absent member
 * means that the call is left to the kernel. Structured-cloneable: it travels to the engine's threads as it is.
 */
export interface Policy {
  readonly mknod?: { readonly devices: ReadonlySet<Dev> }
  readonly mount?: {
    readonly allowed: ReadonlySet<string>
    readonly fuse: ReadonlyMap<string, string>
    readonly shift: boolean
    readonly nodev: boolean
  }
  readonly bpf?: { readonly devices: boolean }
  readonly schedSetscheduler?: { readonly maxPriority: number }
  /** `read`: get, list and remove what may be set, too. */
  readonly setxattr?: { readonly read: boolean }
  readonly sysinfo?: Record<string, never>
}
