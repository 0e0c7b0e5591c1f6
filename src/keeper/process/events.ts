import type { ReasonCode } from '../../calls/reason.ts'
import type { CallRecord } from '../../calls/record.ts'
import type { ProgramEnd } from '../../engine/protocol/messages.ts'
import type { Limits } from '../../policy/config.ts'
import type { Policy } from '../../policy/policy.ts'
import type { RuntimeCall } from '../../runtimes/exec.ts'
import type { Handover } from '../../runtimes/handover.ts'
import type { ServiceManager } from './service-manager.ts'

/** What a policy was made of, for the log: each key with its value and where it came from. */
export interface PolicyDetails {
  readonly policy: Policy
  /** Said at the registration, as it is. */
  readonly details: Readonly<Record<string, unknown>>
}

/** What happens in a keeper. The daemon logs it; `intercede run` shows some of it. */
export type KeeperEvent =
  | {
      readonly type: 'registered'
      readonly handover: Handover
      readonly barred: ReasonCode | undefined
      /** Why it can rule no devices below its cgroup. */
      readonly unruly: ReasonCode | undefined
      readonly resolved: PolicyDetails
      /** Keys of the policy that are left to the kernel, because a user runs us. */
      readonly withheld: readonly string[]
    }
  | { readonly type: 'joined'; readonly handover: Handover }
  /** A container of a keeper before this one is served on. */
  | { readonly type: 'resumed'; readonly id: string }
  | { readonly type: 'ended'; readonly id: string }
  /** A container has reached a limit since the last look: calls of it have waited. */
  | { readonly type: 'limit'; readonly id: string; readonly limit: keyof Limits; readonly value: number }
  /** A connection or a hand-over that was not taken. */
  | { readonly type: 'refused'; readonly message: string }
  /** A program that was started in a container failed. */
  | ({ readonly type: 'program'; readonly id: string } & ProgramEnd)
  | { readonly type: 'fault'; readonly message: string }
  | { readonly type: 'recordsLost'; readonly count: number }
  /** One serves now; not said of the first one. */
  | { readonly type: 'engineStarted'; readonly pid: number | undefined }
  /** The next one starts after `pause` milliseconds; what it finds in flight it settles. */
  | { readonly type: 'engineEnded'; readonly how: string; readonly pause: number }

/** The program that the files are now. */
export interface Successor {
  /** If the files were replaced: goes on as it. @returns why that cannot be */
  follow(): Promise<string> | undefined
  /** The same without being in need of it; to be called once a second. */
  look(): void
}

export interface KeeperOptions {
  /** Where the runtimes connect. */
  readonly socketPath: string
  /** Where the monitors of LXC connect. */
  readonly lxcSocketPath?: string
  /** A user runs us, in a user namespace: only what takes no capability in the initial one is done. */
  readonly forUser?: boolean
  /** The runtime of all containers; otherwise it is the one that connects. */
  readonly runtime?: RuntimeCall
  readonly limits?: Partial<Limits>
  /** How long no engine is started, the first time that they fail all the time; in milliseconds. */
  readonly restartPause?: number
  /** Keeps for the next keeper what this one has. */
  readonly manager?: ServiceManager
  /** Without one the files must not be replaced. */
  readonly successor?: Successor
  /** @throws {Error} if what came with the container is no valid policy: nothing is done for it then */
  resolve(handover: Handover): PolicyDetails
  onEvent(event: KeeperEvent): void
  onRecord(record: CallRecord, containerId: string): void
}
