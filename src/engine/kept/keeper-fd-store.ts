import { MSG_DONTWAIT } from '../../abi/socket.ts'
import type { FdStore, StoredFd } from '../../caller/programs/fd-store.ts'
import { ignoring } from '../../kernel/error.ts'
import { closeRaw } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import { send, socketpair, waitReadable, waitWritable } from '../../kernel/socket.ts'
import { encode } from '../protocol/messages.ts'

/** The keeper closes what it is told to within less than a millisecond, when it gets a processor; one that hangs is not waited for. */
const PATIENCE_MS = 2000

/** How descriptors of this process are closed, of which there are some. */
export type Close = (raws: readonly number[]) => void

const closeHere: Close = (raws) => {
  for (const raw of raws) closeRaw(raw)
}

/** The keeper's, which outlives the engine. Whatever becomes of it, nothing is thrown: it is asked in the middle of everything. */
export class KeeperFdStore implements FdStore {
  readonly #control: Handle
  readonly #close: Close

  /** @param control the socket to the keeper, on which each message is one packet, of whichever thread */
  constructor(control: Handle, close: Close = closeHere) {
    this.#control = control
    this.#close = close
  }

  keep(place: number, fd: Handle, container: number): void {
    ignoring('any', () => send(this.#control, encode({ type: 'keep', place, container }), [fd], MSG_DONTWAIT))
  }

  drop(places: readonly number[]): void {
    if (places.length > 0) ignoring('any', () => this.#drop(places))
  }

  end(held: readonly StoredFd[]): void {
    this.drop(held.map(({ place }) => place))
    if (held.length > 0) this.#close(held.map(({ raw }) => raw))
  }

  #drop(places: readonly number[]): void {
    const [ours, theirs] = socketpair()
    using answer = ours
    {
      using end = theirs
      // One that is not taken is dropped by the next engine.
      if (!waitWritable(this.#control, PATIENCE_MS)) return
      send(this.#control, encode({ type: 'drop', places }), [end], MSG_DONTWAIT)
    }
    waitReadable(answer, PATIENCE_MS)
  }
}
