import type { ReasonCode } from '../../calls/reasons.ts'
import type { CallRecord } from '../../calls/record.ts'
import type { SpelledArguments } from '../../calls/spell.ts'
import type { ProgramEnd } from '../../link/messages.ts'
import type { RefusalCause, RestartCause } from '../../memories/daemon-totals.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import type { Limits } from '../../policy/limits.ts'
import type { Policy } from '../../policy/policy.ts'
import type { Setting, Settings } from '../../policy/settings.ts'
import type { RuntimeCall } from '../../runtimes/exec.ts'
import type { Handover } from '../../runtimes/handover.ts'
import type { ServiceManager } from './service-manager.ts'

/** A key that was set while the container ran: who set it, and when, in milliseconds since 1970. */
export interface SetKey {
  readonly key: string
  readonly value: string
  readonly by: string
  readonly time: number
}

/** Where history is kept, how many bytes of it, and how long, in milliseconds. */
export interface HistoryOptions {
  readonly directory: string
  /** Where readers look for it without the daemon; undefined if they look nowhere. */
  readonly usual?: string | undefined
  readonly size: number
  readonly age: number
}

/** The process that gave an order, as it was then: `comm` and `terminal` are what it calls itself and where it was. */
export interface Orderer {
  readonly uid: number
  readonly pid: number
  /** The user who logged in, if the kernel keeps that. */
  readonly login?: number
  readonly comm?: string
  readonly terminal?: string
}

/** A policy, and what the log says about it. */
export interface PolicyDetails {
  readonly policy: Policy
  /** Each key with its value and origin; absent if nobody reads it. */
  readonly settings?: Settings
  /** Why the policy is invalid, if it is: then nothing is done for the container. */
  readonly wrong?: string
  readonly profile?: string | undefined
  /** More fields of the registration's log line, such as ignored annotations. */
  readonly details: Readonly<Record<string, unknown>>
}

/** The names of the trapped calls; or that they are unknown. */
export type Traps = ReadonlySet<string> | 'unknown'

/** The value of a key of a container as data. */
export interface KeyState extends Pick<Setting, 'ceiling' | 'asked'> {
  readonly value: string
  readonly origin: string
  /** What would hold without `intercede set`, if that gave the value. */
  readonly instead?: KeyState
  /** What the filter of the container does not trap of it; missing where it traps all. */
  readonly untrapped?: string
}

/** Full keys, each with the old and the new value. */
export type ChangedKeys = Readonly<Record<string, { readonly was: KeyState; readonly is: KeyState }>>

/** What has changed for a container. */
export interface ChangedContainer {
  readonly container: string
  readonly keys: ChangedKeys
}

/** An event of a keeper. `serve` logs all events (log/event-log.ts), `run` shows some. */
export type KeeperEvent =
  | {
      readonly type: 'registered'
      readonly handover: Handover
      readonly barred: ReasonCode | undefined
      /** Why its policy is invalid, if it is. */
      readonly wrong?: string | undefined
      /** Why the container cannot set device rules for cgroups below its own. */
      readonly unruly: ReasonCode | undefined
      readonly resolved: PolicyDetails
      /** The calls that its filter traps, as far as known. */
      readonly traps?: Traps
      /** Keys of the policy whose calls are left to the kernel, because an unprivileged user runs intercede. */
      readonly withheld: readonly string[]
    }
  | { readonly type: 'joined'; readonly handover: Handover }
  /** A container is still served after a reload, or by another keeper; `before` differs if the configuration does. */
  | {
      readonly type: 'resumed'
      readonly id: string
      readonly annotations: Handover['annotations']
      readonly before: Settings
      readonly settings: Settings
      readonly policy: Policy
      readonly traps?: Traps
    }
  /** An administrator has changed the policy of a container. */
  | {
      readonly type: 'set'
      readonly id: string
      readonly by: string
      readonly who: Orderer
      readonly settings: Settings
      readonly changed: ChangedKeys
    }
  /** An administrator ends a container of `intercede run`, which has no history of its own. */
  | {
      readonly type: 'stopOrdered'
      readonly id: string
      readonly signal: string
      readonly by: string
      readonly who: Orderer
    }
  /** Somebody has ordered a reload; `who` is not known of a signal. */
  | { readonly type: 'reloadOrdered'; readonly by: string; readonly who?: Orderer; readonly isForced: boolean }
  | { readonly type: 'ended'; readonly id: string; readonly barred: ReasonCode | undefined }
  /** Calls of a container have waited since the last look, because the container has reached a limit. */
  | { readonly type: 'limit'; readonly id: string; readonly limit: keyof Limits; readonly value: number }
  /**
   * A hand-over was refused, or its runtime ended before it. Without a cause, it was an order, or what a reload finds
   * wrong with the policy of a container that was handed over long ago.
   */
  | {
      readonly type: 'refused'
      readonly message: string
      readonly cause?: RefusalCause | 'abandoned' | undefined
      /** Of the container, as far as it is known. */
      readonly id?: string | undefined
      readonly name?: string | undefined
    }
  /** A program that was started in a container failed. */
  | ({ readonly type: 'program'; readonly id: string } & ProgramEnd)
  | { readonly type: 'fault'; readonly message: string }
  | { readonly type: 'recordsLost'; readonly count: number }
  /** An engine after the first one serves now. */
  | { readonly type: 'engineStarted'; readonly pid: number | undefined }
  /** The next engine starts after `pause` milliseconds, and settles the calls in flight. */
  | { readonly type: 'engineEnded'; readonly how: string; readonly cause: RestartCause; readonly pause: number }

/** What another configuration changes beside the policies of containers. */
export interface DaemonChange {
  /** The parts of the configuration. */
  readonly daemon: readonly string[]
  /** Whether they need another engine: calls wait while it starts. */
  readonly anotherEngine: boolean
}

/** What a reload has changed; beside the containers only if this program has applied it. */
export interface Reloaded extends Partial<DaemonChange> {
  readonly changed: readonly ChangedContainer[]
  /** Why containers have no keys, and there is no history: a sentence for each. */
  readonly warnings: readonly string[]
}

/** Applies a changed configuration (see `Service`), or runs the program that our files now contain (see `Reexec`). */
export interface Successor {
  /**
   * Replaces this program, if its files have changed. @returns undefined if they have not; otherwise why the program
   * could not be replaced
   */
  follow(): Promise<string> | undefined
  /**
   * Reloads on request.
   *
   * @param isForced also if running containers lose their policy by it
   * @returns what has changed, or why nothing has; if another program continues, this one ends first
   */
  ask(isForced: boolean): Promise<Reloaded | string>
  /** Does the same while no engine has to be started, at a lower rate. To be called once a second. */
  look(): void
}

export interface KeeperOptions {
  /** Path of the socket on which runtimes connect. */
  readonly socketPath: string
  /** Path of the socket on which LXC's monitors connect. */
  readonly lxcSocketPath?: string
  /** Path of the socket on which readers connect; without it, there are no readers. */
  readonly feedSocketPath?: string
  /**
   * True if an unprivileged user runs intercede in a user namespace: then only calls that need no capability on the
   * host are served.
   */
  readonly forUser?: boolean
  /** The configuration that `resolve` uses, for readers. */
  readonly configPath?: string
  /** The runtime of all containers; without it, the program that connects. */
  readonly runtime?: RuntimeCall
  /** What readers call all containers, if no engine names them. */
  readonly names?: { readonly name?: string; readonly command?: string }
  readonly limits?: Partial<Limits>
  /** How many threads of the engine must be ready before it counts as started; more are started when calls wait. */
  readonly threads?: number
  /** How much of the arguments of calls readers may see; all by default. */
  readonly arguments?: ArgumentMode
  /** Whether metrics name containers; they do not by default. */
  readonly containerLabel?: boolean
  /** The first pause in milliseconds when engines keep failing, see `RestartBackoff`. */
  readonly restartPause?: number
  /** Stores the state for the next keeper. */
  readonly manager?: ServiceManager
  /** Path of the socket on which an administrator gives orders; without it, nobody can. */
  readonly controlSocketPath?: string
  /** Whether `onRecord` takes the arguments of calls too. */
  readonly passesArguments?: boolean
  /** Where history is kept; without it, there is none. */
  readonly history?: HistoryOptions | undefined
  /** Without it, our files must not be replaced while the keeper runs. */
  readonly successor?: Successor
  /**
   * Makes the policy of a container.
   *
   * @throws {Error} if the container's metadata is not a valid policy: then all its calls are left to the kernel
   */
  resolve(handover: Handover, set: readonly SetKey[]): PolicyDetails
  /**
   * Reads the configuration again. Without it nobody can ask what a reload would change.
   *
   * @returns the `resolve` after a reload, and what else changes
   * @throws {Error} if it cannot be read, or is wrong
   */
  readAnew?(): { readonly resolve: KeeperOptions['resolve'] } & DaemonChange
  onEvent(event: KeeperEvent): void
  /**
   * Takes the record of an answered call, up to a second after the answer.
   *
   * @param containerId empty if it is no longer known
   * @param hasEnded whether the container has already ended
   * @param args what the call was made with, if `passesArguments`
   */
  onRecord(record: CallRecord, containerId: string, hasEnded: boolean, args?: SpelledArguments): void
}
