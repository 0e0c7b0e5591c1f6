import { resolve } from 'node:path'
import type { Dev } from '../../abi/brand.ts'
import type { Target } from '../../filter/target.ts'
import type { RuntimeCall } from '../exec.ts'
import type { FileBind } from '../flags.ts'
import type { OciRuntime } from '../runtime.ts'
import { type Bind, type BindRequest, openBind } from './binds.ts'
import { claimRange, type IdRange } from './ids.ts'
import { findInit, refuseOverInit } from './init.ts'
import { type Device, openRootfs, type Rootfs, readDevice } from './root.ts'
import { type FoundRuntime, findRuntime } from './runtime.ts'

/** The options of `intercede run` as data. */
export interface LaunchOptions {
  readonly command: readonly string[]
  readonly name?: string | undefined
  readonly rootfs?: string | undefined
  readonly exposeHost?: boolean | undefined
  readonly binds?: readonly BindRequest[] | undefined
  /** Files of lxcfs, which the runtime mounts over those of the container's /proc and /sys. */
  readonly files?: readonly FileBind[] | undefined
  readonly devices?: readonly string[] | undefined
  /** Character devices that the policy lets the container make; it may therefore open them. */
  readonly policyDevices?: readonly Dev[] | undefined
  /** The memory limit in bytes. */
  readonly memory?: number | undefined
  /** Whether the command is the container's first process itself. */
  readonly bare?: boolean | undefined
  /** Whether the command is systemd, or another init of its kind. */
  readonly systemd?: boolean | undefined
  /** Seconds from the request to end until the container is killed. */
  readonly stopSeconds?: number | undefined
  readonly net?: 'none' | 'host' | undefined
  readonly runtime?: OciRuntime | undefined
  readonly env?: readonly string[] | undefined
  readonly workdir?: string | undefined
  readonly user?: { readonly uid: number; readonly gid: number } | undefined
  /** Returns the OCI `linux.seccomp` object for a runtime; its `listenerPath` is `AGENT_SOCKET`. */
  readonly seccomp?: ((target: Target) => object) | undefined
  /** Starts the agent that receives the container's listener. The socket must exist when the call returns. */
  readonly startAgent?: ((socketPath: string, runtime: RuntimeCall) => Agent) | undefined
  /** Is told what the user should know, but what does not keep the container from starting. */
  readonly say?: ((text: string) => void) | undefined
}

/** The keeper that holds the container's listener. */
export interface Agent {
  /** Rejected if it cannot serve. */
  readonly ready: Promise<void>
  /** @throws {Error} why it could not serve, if it could not */
  close(): Promise<void>
}

export interface Plan {
  readonly options: LaunchOptions
  readonly runtime: FoundRuntime
  /** The program on the host that becomes the container's init; undefined if the command is its own. */
  readonly init: string | undefined
  readonly ids: IdRange
  readonly rootfs: Rootfs | undefined
  /**
   * Whether files of the host are shown with the container's ids, which takes a user namespace before the container
   * starts.
   */
  readonly idmapped: boolean
  readonly binds: readonly Bind[]
  readonly devices: readonly Device[]
}

/** @throws {Error} if the runtime could not start a container with so little memory */
function requireMemory({ known: { name, leastMemoryMib } }: FoundRuntime, bytes = Number.POSITIVE_INFINITY): void {
  if (bytes >= leastMemoryMib * 2 ** 20) return
  throw new Error(
    `Cannot limit memory to ${bytes} bytes: ${name} starts no container with less; use --memory ${leastMemoryMib}m or more`,
  )
}

/**
 * Checks everything that can be checked before anything is made.
 *
 * @throws {Error} one sentence
 */
export function planLaunch(options: LaunchOptions): Plan {
  if (process.geteuid?.() !== 0) throw new Error('Cannot run a container: not root: use sudo')
  const { rootfs, exposeHost = false, binds = [], devices = [] } = options
  if (rootfs !== undefined && exposeHost)
    throw new Error('Cannot use --expose-host: --rootfs replaces the root of the host')
  const runtime = findRuntime(options.runtime)
  requireMemory(runtime, options.memory)
  const shown = binds.map(openBind)
  const init = options.bare || options.systemd ? undefined : findInit()
  if (init !== undefined) refuseOverInit(shown)
  const ids = claimRange(options.say ?? (() => {}))
  const root = rootfs === undefined ? undefined : openRootfs(resolve(rootfs), ids)
  return {
    options,
    runtime,
    init,
    ids,
    rootfs: root,
    idmapped: root?.isRoots ?? exposeHost,
    binds: shown,
    devices: devices.map(readDevice),
  }
}
