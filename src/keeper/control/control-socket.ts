import { readFileSync, readlinkSync } from 'node:fs'
import { capMask } from '../../abi/credentials.ts'
import { MSG_DONTWAIT } from '../../abi/socket.ts'
import { escaped } from '../../calls/escape.ts'
import { orElse, SyscallError } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { pidfdIsAlive } from '../../kernel/pidfd.ts'
import { statusMask } from '../../kernel/procfs/status.ts'
import { bytesFile } from '../../kernel/shared-memory.ts'
import { type Message, peerCredentials, peerProcess, receive, send, socketpair } from '../../kernel/socket.ts'
import type { PersistedState } from '../persist/persisted-state.ts'
import type { Orderer } from '../process/events.ts'
import type { Reactor } from '../process/reactor.ts'
import { Listening } from '../sockets/listen.ts'
import {
  ANSWER,
  CONTROL_VERSION,
  type ControlAnswer,
  ORDER_LIMIT,
  type OrderAnswer,
  type RequestOutcome,
} from './protocol.ts'

/** The sender of an order: in words, and as it is now. */
export interface Administrator {
  readonly by: string
  readonly who: Orderer
}

const usernsOf = (pid: number | 'self'): string => readlinkSync(`/proc/${pid}/ns/user`)
const effectiveOf = (pid: number): bigint => statusMask(readFileSync(`/proc/${pid}/status`, 'latin1'), 'CapEff')

/** The login user, which the kernel keeps across su(1) and sudo(8) if it has auditing. */
const UNSET = '4294967295'
const loginOf = (pid: number): number | undefined =>
  orElse(undefined, () => {
    const login = readFileSync(`/proc/${pid}/loginuid`, 'latin1')
    return /^\d+$/.test(login) && login !== UNSET ? Number(login) : undefined
  })

/** The majors of terminals: consoles, and pseudo-terminals, of which each has 2^20 minors. */
const TERMINALS: Readonly<Record<number, string>> = { 4: 'tty', 136: 'pts/' }

/** @see proc_pid_stat(5): 2 comm, 7 tty_nr, with the minor in bits 31 to 20 and 7 to 0 */
export function ordererAt(pid: number): Orderer {
  const login = loginOf(pid)
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const [open, close] = [stat.indexOf('('), stat.lastIndexOf(')')]
  const tty = Number(stat.slice(close + 2).split(' ')[4])
  const terminal = TERMINALS[(tty >> 8) & 0xfff]
  return {
    ...{ uid: 0, pid, comm: escaped(stat.slice(open + 1, close)) },
    ...(login === undefined ? {} : { login }),
    ...(terminal === undefined ? {} : { terminal: `${terminal}${(tty & 0xff) | ((tty >>> 12) & 0xfff00)}` }),
  }
}

/**
 * A container's root may have our socket, and even the host's uid 0, through a mount and a user namespace that its
 * administrator has chosen. But it is in another user namespace, or lacks the capability of an administrator.
 */
function lookAt(pid: number): Administrator | string {
  if (usernsOf(pid) !== usernsOf('self')) return 'it is in another user namespace than the daemon, as a container is'
  if ((effectiveOf(pid) & capMask('SYS_ADMIN')) === 0n) return 'it lacks CAP_SYS_ADMIN, as a container does'
  const who = ordererAt(pid)
  return { by: who.login ? `root (who logged in as user ${who.login})` : 'root', who }
}

/** Whether the kernel can tell a process from a later one with the same pid: since Linux 6.5. */
function tellsProcesses(): boolean {
  const [ours, theirs] = socketpair()
  using _one = ours
  using _other = theirs
  using peer = peerProcess(ours)
  return peer !== undefined
}

const GONE = 'whoever gave it has ended meanwhile, so nothing was done'

/** Identifies the other end of a connection. @returns why it may not give orders, if so */
function administratorAt(connection: Handle): Administrator | string {
  const { uid, pid } = peerCredentials(connection)
  if (uid !== 0) return `only root may, not user ${uid}`
  if (pid === 0) return 'it is not visible in the pid namespace of the daemon'
  using peer = peerProcess(connection)
  if (!peer && tellsProcesses()) return GONE
  try {
    const found = lookAt(pid)
    return peer && !pidfdIsAlive(peer.pidfd) ? GONE : found
  } catch {
    return GONE
  }
}

/** The most connections that have sent nothing yet; one more closes the oldest. */
const SILENT = 16
/**
 * The most requests in progress at once. It is more than the connections accepted in a row, because no request finishes
 * meanwhile.
 */
const BUSY = 128

interface Does {
  /** Executes a request. It may use the connection meanwhile, which is closed after the answer. */
  obey(request: string, by: Administrator, connection: Fd): Promise<OrderAnswer>
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
    this.#listening = new Listening({ reactor, state, name: 'control', type: 'packet', path, accepted })
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
      const refusal = `Cannot take an order: ${found}${found === GONE ? '' : '; use sudo on the host'}`
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
  #hear(connection: Fd, by: Administrator): boolean {
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

  async #do(connection: Fd, request: string, by: Administrator): Promise<void> {
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
