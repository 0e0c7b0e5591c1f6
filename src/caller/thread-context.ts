import type { Dev } from '../abi/brand.ts'
import type { Handle } from '../kernel/handle.ts'
import type { CallerMemory } from './caller-memory.ts'
import type { DeviceNodes } from './devices/device-node-mounts.ts'
import type { NodevProbe } from './devices/nodev.ts'
import type { FuseServices } from './fuse/fuse-caller.ts'
import type { Container } from './identity/container.ts'
import type { MountServices } from './mounts/caller-mounts.ts'
import type { LookupServices } from './paths/lookup-types.ts'
import type { BpfProgramStore } from './programs/bpf-program-store.ts'
import type { CallerTask } from './task/caller-task.ts'
import type { ProcAccess } from './task/proc-access.ts'

/** Tells what device rules allow, from a cache that a probe renews. The caller's task is held while it is inspected. */
export interface DeviceRulesServices {
  /** Returns what the rules of the caller's cgroups allow; undefined if that cannot be found out. */
  ofCaller(
    container: Container,
    dev: Dev,
    callerTask: CallerTask,
  ): { readonly mknod: boolean; readonly open: boolean } | undefined
}

/** What a thread needs to serve callers; it is made once per thread. */
export interface ThreadContext extends ProcAccess, LookupServices {
  /** The memory of the thread whose call is served. */
  readonly memory: CallerMemory
  /** Our own /proc/self/fd in `proc`. */
  readonly descriptors: Handle
  /** The buffer of the path of a parent directory; only one is looked up at a time. */
  readonly parentPath: Uint8Array
  readonly deviceNodes: DeviceNodes
  readonly nodev: NodevProbe
  readonly rules: DeviceRulesServices
  /** The BPF device programs that containers have loaded. */
  readonly programs: BpfProgramStore
  /** Counts a mount for a container, and tells whether it is within the container's limit. */
  readonly mayMount: (container: Container) => boolean
  /** Counts a file that the kernel keeps in memory of ours, and tells whether it is within the container's limit. */
  readonly mayPin: (container: Container) => boolean
  /** Returns what sysinfo(2) shall report. */
  readonly sysinfo: { report(container: Container, bits: 32 | 64, caller: CallerTask): Uint8Array }
  readonly mounts: MountServices
  readonly fuse: FuseServices
}
