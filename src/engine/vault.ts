import type { Vault } from '../caller/vault.ts'
import { SyscallError } from '../kernel/error.ts'
import type { Handle } from '../kernel/handle.ts'
import { MSG_DONTWAIT, send, socketpair, waitReadable } from '../kernel/socket.ts'
import { encode } from './messages.ts'

/** The keeper closes what it is told to within less than a millisecond, when it gets a processor; one that hangs is not waited for. */
const PATIENCE_MS = 2000

/** The keeper's, which outlives the engine. */
export class KeepersVault implements Vault {
  readonly #control: Handle

  /** @param control the socket to the keeper, on which each message is one packet, of whichever thread */
  constructor(control: Handle) {
    this.#control = control
  }

  keep(place: number, fd: Handle, container: number): void {
    try {
      send(this.#control, encode({ type: 'keep', place, container }), [fd], MSG_DONTWAIT)
    } catch (error) {
      // A keeper that takes nothing now keeps nothing.
      if (!(error instanceof SyscallError)) throw error
    }
  }

  drop(places: readonly number[]): void {
    const [ours, theirs] = socketpair()
    using answer = ours
    {
      using end = theirs
      send(this.#control, encode({ type: 'drop', places }), [end])
    }
    waitReadable(answer, PATIENCE_MS)
  }
}
