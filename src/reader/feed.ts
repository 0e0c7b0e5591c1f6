import { errnoName } from '../abi/errno.ts'
import { isErrno, SyscallError } from '../kernel/error.ts'
import { orClose } from '../kernel/fd.ts'
import { connectUnix, peerCredentials, receive, waitReadable } from '../kernel/socket.ts'
import {
  COUNTS_HEADER,
  COUNTS_PLACE,
  COUNTS_WORD,
  countsPlace,
  ENDED_KINDS,
  ENDED_SIZE,
  endedCounts,
  REFUSALS_AT,
} from '../memories/counts-layout.ts'
import { requireLayouts } from '../memories/feed-answer.ts'
import {
  type CallCount,
  type ContainerCounts,
  callCounts,
  readCalls,
  readCounts,
  type WhichRefusals,
} from '../memories/read-counts.ts'
import { FEED_SOCKET } from '../processes/installation.ts'
import { DirectoryReader, MemoryFile } from './directory-reader.ts'
import { RecordsFollower } from './records-follower.ts'

const ANSWER_LIMIT = 256
/** The longest wait for an answer: who asks a daemon that hangs is told so within two seconds. */
const ANSWER_MS = 1200

/** How many memories a daemon hands out. */
const MEMORIES = 3

/** Copies up to this size have their own buffer. */
const SMALL = 64
/** The buffers are shared by all readers: each copy is decoded at once. */
const SCRATCH = { large: Buffer.allocUnsafeSlow(COUNTS_PLACE), small: Buffer.allocUnsafeSlow(SMALL) }
/** How often to try to copy all counts while none are being moved. */
const TRIES = 10

/** The counts of each present container, and of all ended ones together. */
interface AllCounts {
  readonly containers: Generator<Omit<ContainerCounts, 'refusals'>>
  readonly ended: readonly CallCount[]
}

/** The memories that a daemon shows to readers. Nothing that a reader does changes or delays a call. */
export class FeedReader {
  readonly directory: DirectoryReader
  readonly records: RecordsFollower
  /** The user that listened on the socket; undefined if the memories came from elsewhere. */
  readonly uid: number | undefined
  readonly #counts: MemoryFile
  readonly #files: readonly MemoryFile[]

  constructor(files: readonly MemoryFile[], uid?: number) {
    const [records, counts, directory] = files
    this.uid = uid
    this.#files = files
    this.records = new RecordsFollower(records!)
    this.#counts = counts!
    this.directory = new DirectoryReader(directory!)
  }

  /** Returns the counts of a container's calls; undefined if another container has its number by now. */
  counts(
    { index, serial }: { readonly index: number; readonly serial: number },
    refusals: WhichRefusals = 'all',
  ): ContainerCounts | undefined {
    const counts = readCounts((at, length) => this.#copy(countsPlace(index) + at, length), refusals)
    return counts.serial === serial ? counts : undefined
  }

  /** Copies into the large or the small buffer, over the last copy. */
  #copy(at: number, length: number): DataView {
    return this.#counts.copy(at, length, length > SMALL ? SCRATCH.large : SCRATCH.small)
  }

  /**
   * Reads all counts. A container that ends meanwhile is counted exactly once.
   *
   * @param read called again if a container has ended meanwhile
   */
  allCounts<T>(read: (counts: AllCounts) => T): T {
    for (let tries = 0; ; tries++) {
      const header = this.#counts.words(0, COUNTS_HEADER / 4)
      const version = header[COUNTS_WORD.version]!
      const all = read({ containers: this.#containerCounts(), ended: this.#endedCounts(endedCounts(header)) })
      const isWhole = (version & 1) === 0 && this.#counts.words(0, COUNTS_HEADER / 4)[COUNTS_WORD.version] === version
      if (isWhole || tries === TRIES) return all
    }
  }

  /** One after the other, so that they are not all in memory at once. */
  *#containerCounts(): AllCounts['containers'] {
    const { usedContainers } = this.directory
    for (let index = 0; index < usedContainers; index++) {
      const counts = readCalls(this.#copy(countsPlace(index), REFUSALS_AT))
      if (counts.serial !== 0) yield counts
    }
  }

  #endedCounts(at: number): readonly CallCount[] {
    return callCounts(this.#counts.copy(at, ENDED_SIZE), 0, ENDED_KINDS)
  }

  [Symbol.dispose](): void {
    for (const file of this.#files) file[Symbol.dispose]()
  }
}

export class NoDaemon extends Error {}

/** What is said of a daemon that exists, but does not answer in time. */
export const SILENT = 'the daemon does not answer: it hangs, is stopped, or starts'

/** Thrown if a daemon exists but does not answer in time. */
export class DaemonSilent extends Error {
  readonly why: string

  constructor(path: string) {
    super()
    const see = path === FEED_SOCKET ? '"systemctl status intercede"' : 'its log'
    this.why = `${SILENT}; see ${see}`
    this.message = `Cannot read "${path}": ${this.why}`
  }
}

/**
 * Connects to a daemon. Root and members of the group intercede may connect to its socket.
 *
 * @param patience how long to wait for its answer, in milliseconds
 * @throws {Error} with the reason and the remedy
 */
export function connect(path: string = FEED_SOCKET, patience = ANSWER_MS): FeedReader {
  using connection = connected(path)
  if (!waitReadable(connection, patience)) throw new DaemonSilent(path)
  const bytes = Buffer.alloc(ANSWER_LIMIT)
  const message = receive(connection, bytes)
  if (message?.length === 0)
    throw new Error(
      `Cannot read "${path}": too many readers have not read their answers; end readers that hang, and try again`,
    )
  const files = (message?.fds ?? []).map((fd) => new MemoryFile(fd))
  return orClose(files, () => {
    requireLayouts(bytes.toString('latin1', 0, message?.length ?? 0))
    if (files.length !== MEMORIES)
      throw new Error(
        `Cannot read "${path}": this socket does not give the daemon's memories; name feed.sock with --feed`,
      )
    return new FeedReader(files, peerCredentials(connection).uid)
  })
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket; start the service or "intercede serve", or name its socket with --feed',
  ECONNREFUSED: 'no daemon answers there; start the service or "intercede serve", or name its socket with --feed',
  EACCES: 'only root and members of the group intercede may; use sudo, or become a member',
  EPROTOTYPE: 'it is a socket of another kind; name feed.sock with --feed',
}

function connected(path: string): ReturnType<typeof connectUnix> {
  try {
    return connectUnix(path, 'packet')
  } catch (error) {
    const remedy = error instanceof SyscallError ? REMEDIES[errnoName(error.errno)] : undefined
    const Kind = isErrno(error, 'ENOENT', 'ECONNREFUSED') ? NoDaemon : Error
    throw new Kind(`Cannot read "${path}": ${remedy ?? (error as Error).message}`)
  }
}
