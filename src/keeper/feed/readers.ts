import { readFileSync } from 'node:fs'
import { MSG_DONTWAIT } from '../../abi/socket.ts'
import { now } from '../../kernel/clock.ts'
import { orElse, SyscallError } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { readOnly } from '../../kernel/shared-memory.ts'
import { isUnread, peerCredentials, send } from '../../kernel/socket.ts'
import { CONTAINERS } from '../../link/limits.ts'
import { CountPlaces } from '../../memories/count-places.ts'
import { DirectoryWriter } from '../../memories/directory.ts'
import { feedAnswer } from '../../memories/feed-answer.ts'
import { endRecords } from '../../memories/records.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import type { ContainerEntry } from '../containers/registry.ts'
import { openMemory, openRecords } from '../persist/memories.ts'
import type { PersistedState } from '../persist/persisted-state.ts'
import type { Reactor } from '../process/reactor.ts'
import { Listening, shareSocket } from '../sockets/listen.ts'
import { type DaemonFacts, Feed } from './feed.ts'

/** Members of this group may read what containers do, as members of systemd-journal may read the journal. */
const GROUP = 'intercede'
/** The memories that readers get, in the order in which they get them. */
interface FeedMemories {
  readonly records: Handle
  readonly counts: Handle
  readonly directory: Handle
}

/**
 * The most unread answers at once, to one user and to all users except root. Their descriptors are in transit, and the
 * kernel counts those for root. With more than RLIMIT_NOFILE no process of root can send a descriptor (net/core/scm.c
 * too_many_unix_fds()), and calls of containers fail.
 */
const UNREAD = { user: 8, all: 64 }
/** The most connections in 10 ms. */
const CONNECTIONS = 32
/** The most answers in a while to one user other than root, so that repeated connections cost little. */
const ANSWERS = 32
const WHILE_MS = 100

/**
 * Answers each connection with read-only descriptors of the memories, and closes it once they were read. It reads
 * nothing, so clients cannot make the keeper do anything else. It opens the memories again for each client: a reader
 * with another's open files could move their offsets and change their flags.
 */
export class FeedSocket {
  readonly #listening: Listening
  /** The connections whose answers were unread at the last look, and their users. */
  readonly #unread = new Map<Fd, number>()
  /** How many answers each user got in the present period. */
  readonly #answers = new Map<number, number>()
  #since = 0
  #look: NodeJS.Timeout | undefined
  readonly #memories: readonly Handle[]

  /** @throws {Error} if the path is in use */
  constructor(reactor: Reactor, path: string, memories: FeedMemories, state: PersistedState) {
    const accepted = (connection: Fd): void => this.#answer(connection)
    this.#listening = new Listening({
      reactor,
      state,
      name: 'feed',
      type: 'packet',
      path,
      accepted,
      atMost: CONNECTIONS,
    })
    share(path)
    const { records, counts, directory } = memories
    this.#memories = [records, counts, directory]
  }

  close(): void {
    this.#listening.close()
    clearTimeout(this.#look)
    for (const connection of this.#unread.keys()) connection[Symbol.dispose]()
  }

  #answer(connection: Fd): void {
    const { uid } = peerCredentials(connection)
    if (uid !== 0 && !this.#mayAsk(uid)) connection[Symbol.dispose]()
    else if (this.#send(connection)) this.#keep(connection, uid)
    else connection[Symbol.dispose]()
  }

  #mayAsk(uid: number): boolean {
    const time = now()
    if (time - this.#since > WHILE_MS) {
      this.#since = time
      this.#answers.clear()
    }
    const count = (this.#answers.get(uid) ?? 0) + 1
    if (count > ANSWERS) return false
    this.#answers.set(uid, count)
    const isFull = (): boolean => this.#unread.size >= UNREAD.all || this.#unreadOf(uid) >= UNREAD.user
    if (isFull()) this.#forgetRead()
    return !isFull()
  }

  #unreadOf(uid: number): number {
    let count = 0
    for (const of of this.#unread.values()) if (of === uid) count++
    return count
  }

  /** While we have the connection, the kernel tells whether its answer was read. */
  #keep(connection: Fd, uid: number): void {
    this.#unread.set(connection, uid)
    this.#look ??= setTimeout(() => this.#lookAgain(), WHILE_MS)
  }

  #lookAgain(): void {
    this.#look = undefined
    this.#forgetRead()
    if (this.#unread.size > 0) this.#look = setTimeout(() => this.#lookAgain(), WHILE_MS)
  }

  #forgetRead(): void {
    for (const connection of this.#unread.keys()) {
      if (isUnread(connection)) continue
      this.#unread.delete(connection)
      connection[Symbol.dispose]()
    }
  }

  /** @returns whether it was sent */
  #send(connection: Fd): boolean {
    const fds: Fd[] = []
    try {
      for (const memory of this.#memories) fds.push(readOnly(memory))
      send(connection, feedAnswer(), fds, MSG_DONTWAIT)
      return true
    } catch (error) {
      // The client has gone, or it or we have too many descriptors in transit: we do not wait.
      if (!(error instanceof SyscallError)) throw error
      return false
    } finally {
      for (const fd of fds) fd[Symbol.dispose]()
    }
  }
}

/** Lets the group connect, if it exists. Otherwise, and for a user's daemon, only the owner can connect. */
function share(path: string): void {
  const gid = groupId(GROUP)
  if (gid === undefined || process.getuid?.() !== 0) return
  // A user namespace without that group: only its root connects.
  orElse(undefined, () => shareSocket(path, gid))
}

const groupId = (name: string): number | undefined =>
  orElse(undefined, () => {
    const line = readFileSync('/etc/group', 'latin1')
      .split('\n')
      .find((each) => each.startsWith(`${name}:`))
    const id = Number(line?.split(':')[2] ?? Number.NaN)
    return Number.isInteger(id) ? id : undefined
  })

/** The number of records, and how much of the arguments of calls they contain. */
interface WhatIsRecorded {
  /** As in `Limits`. */
  readonly records: number
  readonly arguments: ArgumentMode
}

/** Owns what readers may see: the memories of records, counts and directory, and the socket that hands them out. */
export class Readers {
  readonly feed: Feed
  /** The memories that engines write. */
  readonly memories: { readonly records: Fd; readonly counts: Fd }
  /** The ring of records, mapped. */
  readonly ring: ArrayBuffer
  /** The counts, mapped. */
  readonly counts: ArrayBuffer
  readonly #state: PersistedState
  readonly #directory: Fd
  readonly #mode: ArgumentMode
  #socket: FeedSocket | undefined

  /** @param failed takes a sentence about what history lacks */
  constructor(
    state: PersistedState,
    { records: size, arguments: mode }: WhatIsRecorded,
    standing: DaemonFacts,
    failed: (message: string) => void,
  ) {
    const records = openRecords(state, size, mode)
    const counts = openMemory(state, 'counts')
    const directory = openMemory(state, 'directory')
    this.#state = state
    this.#directory = directory.fd
    this.memories = { records: records.fd, counts: counts.fd }
    this.ring = records.memory
    this.counts = counts.memory
    this.#mode = mode
    const group = process.getuid?.() === 0 ? groupId(GROUP) : undefined
    const places = new CountPlaces(counts.fd, counts.memory)
    this.feed = new Feed(new DirectoryWriter(directory.memory), places, standing, { group, failed })
  }

  /**
   * Lets readers connect, once they can be told of the containers of the previous keeper.
   *
   * @throws {Error} if the path is in use
   */
  listen(reactor: Reactor, path: string | undefined, resumed: Iterable<ContainerEntry>): void {
    this.feed.resumed(resumed, CONTAINERS)
    this.feed.forgetArguments(this.#mode)
    // A reader may have woken the daemon: it sees the containers before there is an engine.
    this.feed.beat({ engine: undefined, mounters: [], stuck: [], kept: [] })
    if (path === undefined) return
    this.#socket = new FeedSocket(reactor, path, { ...this.memories, directory: this.#directory }, this.#state)
  }

  /** Publishes that no keeper continues with these memories. */
  close(): void {
    this.#socket?.close()
    this.feed.end()
    endRecords(this.ring)
    for (const fd of [this.memories.records, this.memories.counts, this.#directory]) fd[Symbol.dispose]()
  }
}
