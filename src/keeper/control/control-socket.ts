import { MSG_DONTWAIT } from '../../abi/socket.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { bytesFile } from '../../kernel/shared-memory.ts'
import { type Message, receive, send } from '../../kernel/socket.ts'
import type { PersistedState } from '../persist/persisted-state.ts'
import type { Reactor } from '../process/reactor.ts'
import { Listening } from '../sockets/listening.ts'
import { type Administrator, administratorAt } from './administrator.ts'
import {
  ANSWER,
  CONTROL_VERSION,
  type ControlAnswer,
  ORDER_LIMIT,
  type ReloadAnswer,
  type RequestOutcome,
  type SetAnswer,
} from './protocol.ts'

/** The most connections that have sent nothing yet; one more closes the oldest. */
const SILENT = 16
/**
 * The most requests in progress at once. It is more than the connections accepted in a row, because no request finishes
 * meanwhile.
 */
const BUSY = 128

export interface Does {
  /** Executes a request. It may use the connection meanwhile, which is closed after the answer. */
  obey(request: string, by: string, connection: Fd): Promise<SetAnswer | ReloadAnswer>
  /** Called with the clients that may not give orders. */
  refuse(message: string): void
}

/** Sends an answer, if the client can take it now. */
export function answer(connection: Fd, outcome: RequestOutcome): void {
  const whole: ControlAnswer = { version: CONTROL_VERSION, ...outcome }
  try {
    using file = bytesFile('intercede-answer', Buffer.from(JSON.stringify(whole)))
    send(connection, Buffer.from(ANSWER), [file], MSG_DONTWAIT)
  } catch (error) {
    // The client has gone, or has too many descriptors in transit: we do not wait for it.
    if (!(error instanceof SyscallError)) throw error
  }
}

/** Receives a message. @returns undefined if there is none yet */
function take(connection: Fd, bytes: Uint8Array): Message | 'over' | undefined {
  try {
    const message = receive(connection, bytes)
    for (const fd of message?.fds ?? []) fd[Symbol.dispose]()
    return message?.length === 0 ? 'over' : message
  } catch (error) {
    if (error instanceof SyscallError) return 'over'
    throw error
  }
}

/**
 * Takes the administrator's orders: one packet of JSON for each connection, and one answer.
 *
 *   connection  event                                  next      method
 *   silent      its request arrives                    busy      #hear
 *               it closes, or too many are silent      closed    #hear, #keep
 *   busy        the request is done or refused         closed    #done
 *   any         it is not an administrator's, or too   closed    #enter, #hear: a refusal is the answer
 *               many are busy
 */
export class ControlSocket {
  readonly #reactor: Reactor
  readonly #does: Does
  readonly #listening: Listening
  readonly #bytes = Buffer.alloc(ORDER_LIMIT + 1)
  /** Silent connections, oldest first, each with the function that ends its watch. */
  readonly #silent = new Map<Fd, () => void>()
  readonly #busy = new Set<Fd>()

  /** @throws {Error} if the path is in use */
  constructor(reactor: Reactor, path: string, state: PersistedState, does: Does) {
    this.#reactor = reactor
    this.#does = does
    const accepted = (connection: Fd): void => this.#enter(connection)
    this.#listening = new Listening({ reactor, state, name: 'control', path, accepted })
  }

  close(): void {
    this.#listening.close()
    for (const connection of this.#silent.keys()) this.#forget(connection)
    for (const connection of this.#busy) connection[Symbol.dispose]()
    this.#busy.clear()
  }

  #enter(connection: Fd): void {
    const found = administratorAt(connection)
    if (typeof found === 'string') {
      const refusal = `Cannot take an order: ${found}; use sudo on the host`
      this.#does.refuse(refusal)
      answer(connection, { refusal })
      connection[Symbol.dispose]()
    } else if (!this.#hear(connection, found)) this.#keep(connection, found)
  }

  #keep(connection: Fd, who: Administrator): void {
    const [oldest] = this.#silent.keys()
    if (this.#silent.size >= SILENT) this.#forget(oldest!)
    const unwatch = this.#reactor.watch(connection, () => this.#hear(connection, who))
    this.#silent.set(connection, unwatch)
  }

  #forget(connection: Fd): void {
    this.#silent.get(connection)?.()
    this.#silent.delete(connection)
    connection[Symbol.dispose]()
  }

  /** @returns false if nothing has arrived yet */
  #hear(connection: Fd, { by }: Administrator): boolean {
    const message = take(connection, this.#bytes)
    if (message === undefined) return false
    this.#silent.get(connection)?.()
    this.#silent.delete(connection)
    if (message === 'over') connection[Symbol.dispose]()
    else if (message.length > ORDER_LIMIT) this.#refuse(connection, `it has more than ${ORDER_LIMIT} bytes`)
    else if (this.#busy.size >= BUSY) this.#refuse(connection, `${BUSY} others are being done; try again`)
    else void this.#do(connection, this.#bytes.toString('utf8', 0, message.length), by)
    return true
  }

  #refuse(connection: Fd, why: string): void {
    answer(connection, { refusal: `Cannot take the request: ${why}` })
    connection[Symbol.dispose]()
  }

  async #do(connection: Fd, request: string, by: string): Promise<void> {
    this.#busy.add(connection)
    const outcome = await this.#does.obey(request, by, connection).then(
      (done): RequestOutcome => ({ answer: done }),
      ({ message }: Error): RequestOutcome => ({ refusal: message }),
    )
    if (!this.#busy.delete(connection)) return
    answer(connection, outcome)
    connection[Symbol.dispose]()
  }
}
