import { CONTAINERS } from '../../engine/tables/limits.ts'
import type { Fd } from '../../kernel/fd.ts'
import { CountPlaces } from '../../memories/count-places.ts'
import { DirectoryWriter } from '../../memories/directory-writer.ts'
import { endRecords } from '../../memories/record-layout.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import type { ContainerEntry } from '../containers/registry.ts'
import { openCounts } from '../persist/open-counts.ts'
import { openDirectoryMemory } from '../persist/open-directory.ts'
import { openRecords } from '../persist/open-records.ts'
import type { PersistedState } from '../persist/persisted-state.ts'
import type { Reactor } from '../process/reactor.ts'
import { type DaemonFacts, Feed } from './feed.ts'
import { FeedSocket } from './feed-socket.ts'

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
  /** How many records of an earlier version were lost. */
  readonly lostRecords: number
  readonly #state: PersistedState
  readonly #directory: Fd
  readonly #mode: ArgumentMode
  #socket: FeedSocket | undefined

  /**
   * @param journal the journal of an earlier version, which contains the records too
   */
  constructor(
    state: PersistedState,
    { records: size, arguments: mode }: WhatIsRecorded,
    journal: ArrayBuffer | undefined,
    standing: DaemonFacts,
  ) {
    const { records, ring, lost } = openRecords(state, size, journal, mode)
    const { counts, memory } = openCounts(state)
    const directory = openDirectoryMemory(state)
    this.#state = state
    this.#directory = directory.fd
    this.memories = { records, counts }
    this.ring = ring
    this.counts = memory
    this.lostRecords = lost
    this.#mode = mode
    this.feed = new Feed(new DirectoryWriter(directory.memory), new CountPlaces(counts, memory), standing)
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
