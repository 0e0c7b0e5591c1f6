import type { Dev } from '../abi/brand.ts'
import type { Handle } from '../kernel/handle.ts'
import type { RemoteMemory } from '../kernel/vm-readv.ts'
import type { DeviceNodes } from './devices/device-node-mounts.ts'
import type { NodevProbe } from './devices/nodev.ts'
import type { FuseServices } from './fuse/fuse-caller.ts'
import type { Container } from './identity/container.ts'
import type { MountServices } from './mounts/caller-mounts.ts'
import type { LookupServices } from './paths/lookup-types.ts'
import type { BpfProgramStore } from './programs/bpf-program-store.ts'
import type { CallerTask } from './task/caller-task.ts'
import type { ProcAccess } from './task/proc-access.ts'

/** Knows what device rules allow; they are asked for once in a while. The caller's task is held before it is looked at. */
export interface DeviceRulesServices {
  /** What those of the control groups of a task allow; undefined if nobody knows. */
  ofCaller(
    container: Container,
    dev: Dev,
    callerTask: CallerTask,
  ): { readonly mknod: boolean; readonly open: boolean } | undefined
  /**
   * Can the device be opened neither in the control groups of its container, nor by the task? undefined if nobody knows.
   *
   * @param bar called if it can be opened in those of the container, to change that; returns whether it has
   */
  closed(container: Container, dev: Dev, callerTask: CallerTask, bar: () => boolean): boolean | undefined
}

/** What a thread needs to look at callers: made once. */
export interface ThreadContext extends ProcAccess, LookupServices {
  readonly memory: RemoteMemory
  /** Our own /proc/self/fd there. */
  readonly descriptors: Handle
  /** Of the one path that is looked up at a time. */
  readonly pathBuffers: { readonly path: Uint8Array; readonly parent: Uint8Array }
  readonly deviceNodes: DeviceNodes
  readonly nodev: NodevProbe
  readonly rules: DeviceRulesServices
  /** The device programs that containers have loaded. */
  readonly programs: BpfProgramStore
  /** Counts the mounts that a container gets. */
  readonly mayMount: (container: Container) => boolean
  /** Knows what sysinfo(2) shall report. */
  readonly sysinfo: { report(container: Container, bits: 32 | 64): Uint8Array }
  readonly mounts: MountServices
  readonly fuse: FuseServices
}
