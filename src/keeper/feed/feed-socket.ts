import { chmodSync, chownSync, readFileSync, rmSync } from 'node:fs'
import { MSG_DONTWAIT } from '../../abi/socket.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import { readOnly } from '../../kernel/shared-memory.ts'
import { accept, send } from '../../kernel/socket.ts'
import { feedAnswer } from '../../memories/feed-answer.ts'
import type { PersistedState } from '../persist/persisted-state.ts'
import type { Reactor } from '../process/reactor.ts'
import { listenExclusively } from '../sockets/listen.ts'

/** Members may read what containers do, as those of systemd-journal may read the journal. */
const GROUP = 'intercede'
/** How many connections are answered in a row, before others have their turn. */
const IN_A_ROW = 64
/** Time without accepting after an error, such as a lack of descriptors. */
const REST_MS = 200

/** The memories that readers get, in the order in which they get them. */
export interface FeedMemories {
  readonly records: Handle
  readonly counts: Handle
  readonly directory: Handle
}

/**
 * Answers each connection with read-only descriptors of the memories, and closes it. It reads nothing: nobody who may
 * connect can make the keeper do anything else.
 */
export class FeedSocket {
  readonly #reactor: Reactor
  readonly #path: string
  readonly #socket: ReturnType<PersistedState['keepSocket']>
  readonly #fds: readonly Fd[]
  #unwatch: () => void = () => {}
  #rest: NodeJS.Timeout | undefined

  /** @throws {Error} if the path is in use */
  constructor(reactor: Reactor, path: string, memories: FeedMemories, state: PersistedState) {
    this.#reactor = reactor
    this.#path = path
    this.#socket = state.socket('feed') ?? state.keepSocket('feed', listenExclusively(path, 'packet'))
    share(path)
    const { records, counts, directory } = memories
    this.#fds = [records, counts, directory].map(readOnly)
    this.#watch()
  }

  close(): void {
    clearTimeout(this.#rest)
    this.#unwatch()
    if (this.#socket.isOurs) rmSync(this.#path, { force: true })
    this.#socket.fd[Symbol.dispose]()
    for (const fd of this.#fds) fd[Symbol.dispose]()
  }

  #watch(): void {
    this.#unwatch = this.#reactor.watch(this.#socket.fd, () => this.#accept())
  }

  #accept(): void {
    try {
      for (let count = 0; count < IN_A_ROW; count++) {
        using connection = accept(this.#socket.fd)
        if (!connection) return
        this.#answer(connection)
      }
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      this.#unwatch()
      this.#rest = setTimeout(() => this.#watch(), REST_MS)
    }
  }

  #answer(connection: Fd): void {
    try {
      send(connection, feedAnswer(), this.#fds, MSG_DONTWAIT)
    } catch (error) {
      // It has gone, or has too many descriptors on their way: nobody waits for it.
      if (!(error instanceof SyscallError)) throw error
    }
  }
}

/** Lets the group connect, if there is one. Without it, and for a user's daemon, the socket stays its owner's alone. */
function share(path: string): void {
  const gid = groupId(GROUP)
  if (gid === undefined || process.getuid?.() !== 0) return
  try {
    chownSync(path, 0, gid)
    chmodSync(path, 0o660)
  } catch {
    // A user namespace without that group: only its root connects.
  }
}

function groupId(name: string): number | undefined {
  try {
    const line = readFileSync('/etc/group', 'latin1')
      .split('\n')
      .find((each) => each.startsWith(`${name}:`))
    const id = Number(line?.split(':')[2] ?? Number.NaN)
    return Number.isInteger(id) ? id : undefined
  } catch {
    return undefined
  }
}
