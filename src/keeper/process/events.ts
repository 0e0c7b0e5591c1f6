import type { ReasonCode } from '../../calls/reason.ts'
import type { CallRecord } from '../../calls/record.ts'
import type { ProgramEnd } from '../../engine/protocol/messages.ts'
import type { RestartCause } from '../../memories/daemon-totals.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import type { Limits } from '../../policy/limits.ts'
import type { Policy } from '../../policy/policy.ts'
import type { Settings } from '../../policy/settings.ts'
import type { RuntimeCall } from '../../runtimes/exec.ts'
import type { Handover } from '../../runtimes/handover.ts'
import type { ServiceManager } from './service-manager.ts'
import type { SetKey } from './set-key.ts'

/** A policy, and what the log says of it. */
export interface PolicyDetails {
  readonly policy: Policy
  /** Each key with its value and origin; absent where nobody is told, and for a policy that is invalid. */
  readonly settings?: Settings
  /** More fields of the log line of the registration, such as annotations that were ignored. */
  readonly details: Readonly<Record<string, unknown>>
}

/** Names of calls; or it is unknown which calls are trapped. */
export type Traps = ReadonlySet<string> | 'unknown'

/** Keys in full, each with what was and what is. */
export type ChangedKeys = Readonly<Record<string, { readonly was: string; readonly is: string }>>

/** An event of a keeper. `serve` logs all events (log/event-log.ts), `run` shows some. */
export type KeeperEvent =
  | {
      readonly type: 'registered'
      readonly handover: Handover
      readonly barred: ReasonCode | undefined
      /** Why the container cannot give device rules to cgroups below its own. */
      readonly unruly: ReasonCode | undefined
      readonly resolved: PolicyDetails
      /** The calls that its filter traps, as far as that can be known. */
      readonly traps?: Traps
      /** Keys of the policy that are left to the kernel, because a user runs intercede. */
      readonly withheld: readonly string[]
    }
  | { readonly type: 'joined'; readonly handover: Handover }
  /** A container of the previous keeper is served on, with other settings than before if the configuration changed. */
  | {
      readonly type: 'resumed'
      readonly id: string
      readonly before?: Settings | undefined
      readonly settings: Settings
      readonly policy: Policy
      readonly traps?: Traps
    }
  /** An administrator has changed the policy of a container. */
  | {
      readonly type: 'set'
      readonly id: string
      readonly by: string
      readonly settings: Settings
      readonly changed: ChangedKeys
    }
  | { readonly type: 'ended'; readonly id: string }
  /** Calls of a container have waited since the last look, because it has reached a limit. */
  | { readonly type: 'limit'; readonly id: string; readonly limit: keyof Limits; readonly value: number }
  /** A connection or a hand-over was refused. */
  | { readonly type: 'refused'; readonly message: string }
  /** A program that was started in a container failed. */
  | ({ readonly type: 'program'; readonly id: string } & ProgramEnd)
  | { readonly type: 'fault'; readonly message: string }
  | { readonly type: 'recordsLost'; readonly count: number }
  /** A later engine than the first serves now. */
  | { readonly type: 'engineStarted'; readonly pid: number | undefined }
  /** The next engine starts after `pause` milliseconds, and settles the calls in flight. */
  | { readonly type: 'engineEnded'; readonly how: string; readonly cause: RestartCause; readonly pause: number }

/** Replaces this program by the program in our files now, see `Reexec`. */
export interface Successor {
  /** Replaces this program, if its files have changed. @returns undefined if not; else why it could not be replaced */
  follow(): Promise<string> | undefined
  /** Replaces this program on request. @returns why it could not be replaced; else this program ends first */
  ask(): Promise<string>
  /** Does the same while no engine has to be started, at a lower rate. To be called once a second. */
  look(): void
}

export interface KeeperOptions {
  /** Path of the socket on which runtimes connect. */
  readonly socketPath: string
  /** Path of the socket on which LXC's monitors connect. */
  readonly lxcSocketPath?: string
  /** Path of the socket on which readers connect; without it, nobody does. */
  readonly feedSocketPath?: string
  /** True if a user runs intercede in a user namespace: only calls that take no capability on the host are served. */
  readonly forUser?: boolean
  /** The configuration that `resolve` goes by, for readers. */
  readonly configPath?: string
  /** The runtime of all containers; without it, the program that connects. */
  readonly runtime?: RuntimeCall
  readonly limits?: Partial<Limits>
  /** How many threads of the engine must be ready before it counts as started; more are started when calls wait. */
  readonly threads?: number
  /** How much of the arguments of calls readers may see; all of it, if it is left out. */
  readonly arguments?: ArgumentMode
  /** Whether metrics name containers; if it is left out, they do not. */
  readonly containerLabel?: boolean
  /** First pause in milliseconds when engines fail all the time, see `RestartBackoff`. */
  readonly restartPause?: number
  /** Stores the state for the next keeper. */
  readonly manager?: ServiceManager
  /** Path of the socket on which an administrator gives orders; without it, nobody does. */
  readonly controlSocketPath?: string
  /** Without it, our files must not be replaced while the keeper runs. */
  readonly successor?: Successor
  /**
   * Makes the policy of a container.
   *
   * @throws {Error} if the metadata of the container is no valid policy: all its calls are left to the kernel then
   */
  resolve(handover: Handover, set: readonly SetKey[]): PolicyDetails
  /**
   * Reads the configuration anew. Without it nobody can ask what a reload would change.
   *
   * @returns what `resolve` would be after a reload
   * @throws {Error} if it cannot be read, or is wrong
   */
  readAnew?(): KeeperOptions['resolve']
  onEvent(event: KeeperEvent): void
  /**
   * Takes the record of an answered call, up to a second after the answer.
   *
   * @param containerId empty if it is not known any more
   * @param hasEnded whether the container has ended before
   */
  onRecord(record: CallRecord, containerId: string, hasEnded: boolean): void
}
