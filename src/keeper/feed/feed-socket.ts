import { chmodSync, chownSync, readFileSync } from 'node:fs'
import { MSG_DONTWAIT } from '../../abi/socket.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import { readOnly } from '../../kernel/shared-memory.ts'
import { send } from '../../kernel/socket.ts'
import { feedAnswer } from '../../memories/feed-answer.ts'
import type { PersistedState } from '../persist/persisted-state.ts'
import type { Reactor } from '../process/reactor.ts'
import { Listening } from '../sockets/listening.ts'

/** Members may read what containers do, as those of systemd-journal may read the journal. */
const GROUP = 'intercede'
/** The memories that readers get, in the order in which they get them. */
export interface FeedMemories {
  readonly records: Handle
  readonly counts: Handle
  readonly directory: Handle
}

/**
 * Answers each connection with read-only descriptors of the memories, and closes it. It reads nothing: nobody who may
 * connect can make the keeper do anything else. The memories are opened anew for each: a reader that got the files of
 * another could move its offset and change its flags.
 */
export class FeedSocket {
  readonly #listening: Listening
  readonly #memories: readonly Handle[]

  /** @throws {Error} if the path is in use */
  constructor(reactor: Reactor, path: string, memories: FeedMemories, state: PersistedState) {
    const accepted = (connection: Fd): void => this.#answer(connection)
    this.#listening = new Listening({ reactor, state, name: 'feed', path, accepted })
    share(path)
    const { records, counts, directory } = memories
    this.#memories = [records, counts, directory]
  }

  close(): void {
    this.#listening.close()
  }

  #answer(connection: Fd): void {
    using answered = connection
    const fds: Fd[] = []
    try {
      for (const memory of this.#memories) fds.push(readOnly(memory))
      send(answered, feedAnswer(), fds, MSG_DONTWAIT)
    } catch (error) {
      // It has gone, or has too many descriptors on their way, or we have: nobody waits for it.
      if (!(error instanceof SyscallError)) throw error
    } finally {
      for (const fd of fds) fd[Symbol.dispose]()
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
