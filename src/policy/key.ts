import type { Cap } from '../abi/capability.ts'
import type { DeviceNames } from './refused-devices.ts'
import type { ValueType } from './value-type.ts'
import { permission } from './value-types.ts'

export const PREFIX = 'security.syscalls.intercept.'

/** The name as it is written in files and logs. */
export const fullName = (name: string): string => `${PREFIX}${name}`

/** `mknod` is short for `security.syscalls.intercept.mknod`. Any other name with that beginning stays as it is. */
export const expandShort = (name: string): string => (name.startsWith('security.') ? name : fullName(name))

/** How documents and help texts present a key. */
interface Described {
  /** What it is for, in one line of `intercede profile --help`. */
  readonly help: string
  /** The same for README.md, as Markdown of one line, with a link to the page that says more. */
  readonly allows: string
}

interface CallDefinition extends Described {
  /**
   * What a container must hold for the call to be of any use, since the kernel would ask for it in the initial user
   * namespace: any one of these sets, the usual one first. None for a call that takes no capability.
   */
  readonly capabilities: readonly (readonly Cap[])[]
  /** May a daemon that a user runs serve it? It may not where the kernel lets only root of the host do it. */
  readonly rootless: boolean
  /** @throws {PolicyError} if the options of the call contradict each other, which is checked even while the call is off */
  checkOptions?(options: object): void
}

interface OptionDefinition<T> extends Described {
  readonly default: string
  /** Does its call nothing at all unless this option, or another one with this mark, has a value? */
  readonly essential?: true
  /** Left out where a daemon that a user runs may serve it whenever that daemon may serve its call. */
  readonly rootless?: false
  /**
   * What the value is in the policy, where that is not simply the value.
   *
   * @param named what the numbers of devices mean on this host now
   * @throws {PolicyError} if it cannot be on this host
   */
  inPolicy?(value: T, named: DeviceNames): T
}

/** A key that turns a family of calls on: `Policy` has a member for it then. */
export interface CallKey extends ValueType<boolean>, CallDefinition {
  readonly default: string
}

/** A key `CALL.OPTION` that says more about a call: a member of that call's member of `Policy`. */
export interface OptionKey<T> extends ValueType<T>, OptionDefinition<T> {
  inPolicy(value: T, named: DeviceNames): T
}

/** A key for a family of calls, which is off until somebody turns it on. */
export const call = (definition: CallDefinition): CallKey => ({ ...permission, default: 'false', ...definition })

/** A key for what may be said about a call. */
export const option = <T>(type: ValueType<T>, definition: OptionDefinition<T>): OptionKey<T> => ({
  inPolicy: (value) => value,
  ...type,
  ...definition,
})
