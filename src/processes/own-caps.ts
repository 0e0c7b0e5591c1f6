import { type Cap, capMask } from '../abi/capability.ts'
import { CapabilitySet } from '../kernel/credentials.ts'
import type { ProcessCaps } from './process-caps.ts'
import { restoreOrDie } from './restore.ts'

/**
 * Sets the capabilities of the main thread of a helper process: at most the declared ones, and none between requests.
 *
 * Invariant: called by the main thread only.
 */
export class OwnCaps<K extends string> {
  readonly #permitted: bigint
  readonly #effective: ReadonlyMap<string, bigint>
  readonly #sets = new Map<bigint, CapabilitySet>()

  constructor({ permitted, effective }: Omit<ProcessCaps, 'effective'> & { readonly effective: Record<K, object> }) {
    this.#permitted = capMask(...permitted)
    const masks = Object.entries<object>(effective).map(
      ([kind, needed]) => [kind, capMask(...namesOf(needed))] as const,
    )
    this.#effective = new Map(masks)
  }

  /**
   * Makes the effective set the one that is declared for `kind`.
   *
   * @param among a mask: only capabilities of it are taken
   * @throws {Error} never a SyscallError: a process whose capabilities are not those declared must end
   */
  enter(kind: K, among = -1n): void {
    this.#enter(this.#effective.get(kind)! & among)
  }

  rest(): void {
    this.#enter(0n)
  }

  /** Runs `action` with the capabilities of one kind of request. */
  during<T>(kind: K, action: () => T): T {
    this.enter(kind)
    try {
      return action()
    } finally {
      this.rest()
    }
  }

  #enter(effective: bigint): void {
    restoreOrDie(() => {
      const set = this.#set(effective)
      set.enter()
      if (!set.entered) throw new Error('capabilities do not read back')
    })
  }

  #set(effective: bigint): CapabilitySet {
    const known = this.#sets.get(effective)
    if (known) return known
    const made = new CapabilitySet({ effective, permitted: this.#permitted, inheritable: 0n })
    this.#sets.set(effective, made)
    return made
  }
}

const namesOf = (needed: object): readonly Cap[] => Object.keys(needed) as Cap[]
