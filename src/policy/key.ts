import type { Cap } from '../abi/credentials.ts'
import type { DeviceNames } from './refused-devices.ts'
import { permission, type ValueType } from './value-types.ts'

export const PREFIX = 'security.syscalls.intercept.'

/** Returns the name of a key as files and logs have it. */
export const fullName = (name: string): string => `${PREFIX}${name}`

/** Completes `mknod` to `security.syscalls.intercept.mknod`. A name that begins with `security.` stays as it is. */
export const expandShort = (name: string): string => (name.startsWith('security.') ? name : fullName(name))

/** The texts by which documents and help present a key. */
interface Described {
  /** One line of `intercede profile --help` says with this what the key is for. */
  readonly help: string
  /** A cell of docs/guide/keys.md: one line of Markdown, with a link to the page that says more. */
  readonly allows: string
}

interface CallDefinition extends Described {
  /**
   * A container must hold one of these sets for the call to be of any use, since the kernel would ask for it in the
   * initial user namespace. The usual set is the first; a call that takes no capability has no set.
   */
  readonly capabilities: readonly (readonly Cap[])[]
  /** Whether a daemon that a user runs may serve the call. The kernel lets only root of the host do most calls. */
  readonly rootless: boolean
  /**
   * Checks the options of the call together, even while the call is off.
   *
   * @throws {PolicyError} if they contradict each other
   */
  checkOptions?(options: object): void
}

interface OptionDefinition<T> extends Described {
  readonly default: string
  /** The call does nothing at all unless an essential option of it has a value. */
  readonly essential?: true
  /** What a container must hold beside the call's capabilities, for the option to be of any use; as those of a call. */
  readonly capabilities?: readonly (readonly Cap[])[]
  /** False for an option that a daemon of a user cannot serve although the daemon may serve the call. */
  readonly rootless?: false
  /**
   * Returns what the policy has of the value. A definition leaves this out where the policy has the value itself.
   *
   * @param named what the numbers of devices mean on this host now
   * @throws {PolicyError} if this host cannot have the value
   */
  inPolicy?(value: T, named: DeviceNames): T
}

/** A key that turns a family of calls on. While it is on, the policy has a member for it. */
export interface CallKey extends ValueType<boolean>, CallDefinition {
  readonly default: string
}

/** A key `CALL.OPTION` that says more about a call. The member of the call in the policy has a member for it. */
export interface OptionKey<T> extends ValueType<T>, OptionDefinition<T> {
  inPolicy(value: T, named: DeviceNames): T
}

/** Defines a key for a family of calls, which is off until somebody turns it on. */
export const call = (definition: CallDefinition): CallKey => ({ ...permission, default: 'false', ...definition })

/** Defines a key that says more about a call. */
export const option = <T>(type: ValueType<T>, definition: OptionDefinition<T>): OptionKey<T> => ({
  inPolicy: (value) => value,
  ...type,
  ...definition,
})
