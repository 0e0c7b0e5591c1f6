import { MSG_DONTWAIT } from '../../abi/socket.ts'
import type { Copy, FdStore, StoredFd } from '../../caller/programs/fd-store.ts'
import { ignoring, orFalse } from '../../kernel/error.ts'
import { closeRaw, type Handle } from '../../kernel/fd.ts'
import { send, socketpair, waitReadable, waitWritable } from '../../kernel/socket.ts'
import { encode } from '../../link/messages.ts'

/**
 * How long to wait for the keeper, which closes descriptors in less than a millisecond once it has a processor. We do
 * not wait longer, because it may hang.
 */
const PATIENCE_MS = 2000

/** How to close descriptors of this process; there is at least one. */
export type Close = (raws: readonly number[]) => void

const closeHere: Close = (raws) => {
  for (const raw of raws) closeRaw(raw)
}

/**
 * The client of the keeper's table of descriptors, which outlives the engine. It never throws, even if a message cannot
 * be sent: its callers are in the middle of other work.
 *
 * Invariant: any thread may call everything, because each message is one packet.
 */
export class KeeperFdStore implements FdStore {
  readonly #control: Handle
  readonly #close: Close
  readonly #closeLater: Close

  /** @param control the socket to the keeper, on which each message is one packet, of whichever thread */
  constructor(
    control: Handle,
    { close = closeHere, closeLater }: { readonly close?: Close; readonly closeLater: Close },
  ) {
    this.#control = control
    this.#close = close
    this.#closeLater = closeLater
  }

  keep(place: number, fd: Handle, container: number): void {
    this.exchange([], [{ place, fd }], container)
  }

  exchange(drops: readonly number[], copies: readonly Copy[], container: number): void {
    const places = copies.map(({ place }) => place)
    const message = encode({ type: 'keep', places, drops, container })
    const fds = copies.map(({ fd }) => fd)
    ignoring('any', () => {
      if (this.#sends(message, fds) || drops.length === 0) return
      if (waitWritable(this.#control, PATIENCE_MS)) this.#sends(message, fds)
    })
  }

  /** @returns false while the keeper's queue is full */
  #sends(message: Uint8Array, fds: readonly Handle[]): boolean {
    return orFalse(['EAGAIN'], () => {
      send(this.#control, message, fds, MSG_DONTWAIT)
      return true
    })
  }

  drop(places: readonly number[]): void {
    if (places.length > 0) ignoring('any', () => this.#drop(places))
  }

  settle(): void {
    // Of no copy: the keeper answers when it has done what was sent before.
    ignoring('any', () => this.#drop([]))
  }

  end(held: readonly StoredFd[]): void {
    this.#end(held, this.#close)
  }

  endLater(held: readonly StoredFd[]): void {
    this.#end(held, this.#closeLater)
  }

  #end(held: readonly StoredFd[], close: Close): void {
    this.drop(held.map(({ place }) => place))
    if (held.length > 0) close(held.map(({ raw }) => raw))
  }

  #drop(places: readonly number[]): void {
    const [ours, theirs] = socketpair()
    using answer = ours
    {
      using end = theirs
      // The next engine drops what the keeper does not take.
      if (!waitWritable(this.#control, PATIENCE_MS)) return
      send(this.#control, encode({ type: 'drop', places }), [end], MSG_DONTWAIT)
    }
    waitReadable(answer, PATIENCE_MS)
  }
}
