import { connectUnix, receive, waitReadable } from '../kernel/socket.ts'
import { countsPlace } from '../memories/counts-layout.ts'
import { requireLayouts } from '../memories/feed-answer.ts'
import { FEED_SOCKET } from '../memories/feed-path.ts'
import { type ContainerCounts, readCounts } from '../memories/read-counts.ts'
import { DirectoryReader } from './directory-reader.ts'
import { MemoryFile } from './memory-file.ts'
import { RecordsFollower } from './records-follower.ts'

const ANSWER_LIMIT = 256
/** Limit of the wait for an answer: a daemon that is busy with itself, or stopped. */
const ANSWER_MS = 5000

/** What a daemon shows to readers. Nothing that a reader does changes or delays a call. */
export class FeedReader {
  readonly directory: DirectoryReader
  readonly records: RecordsFollower
  readonly #counts: MemoryFile
  readonly #files: readonly MemoryFile[]

  constructor(files: readonly MemoryFile[]) {
    const [records, counts, directory] = files
    this.#files = files
    this.records = new RecordsFollower(records!)
    this.#counts = counts!
    this.directory = new DirectoryReader(directory!)
  }

  /** Returns what was counted of the calls of a container; undefined if another one has its number by now. */
  counts({ index, serial }: { readonly index: number; readonly serial: number }): ContainerCounts | undefined {
    const counts = readCounts((at, length) => this.#counts.copy(countsPlace(index) + at, length))
    return counts.serial === serial ? counts : undefined
  }

  [Symbol.dispose](): void {
    for (const file of this.#files) file[Symbol.dispose]()
  }
}

/**
 * Connects to a daemon. Its socket may be connected to by root, and by members of the group intercede.
 *
 * @throws {Error} that says why not, and what to do
 */
export function connect(path: string = FEED_SOCKET): FeedReader {
  using connection = connected(path)
  if (!waitReadable(connection, ANSWER_MS))
    throw new Error(`Cannot read "${path}": the daemon does not answer; see "systemctl status intercede"`)
  const bytes = Buffer.alloc(ANSWER_LIMIT)
  const message = receive(connection, bytes)
  const files = (message?.fds ?? []).map((fd) => new MemoryFile(fd))
  try {
    requireLayouts(bytes.toString('latin1', 0, message?.length ?? 0))
    return new FeedReader(files)
  } catch (error) {
    for (const file of files) file[Symbol.dispose]()
    throw error
  }
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket; start "intercede serve", or name its socket with --feed',
  ECONNREFUSED: 'no daemon answers there; start "intercede serve", or name its socket with --feed',
  EACCES: 'only root and members of the group intercede may; use sudo, or become a member',
  EPROTOTYPE: 'it is a socket of another kind; name feed.sock with --feed',
}

function connected(path: string): ReturnType<typeof connectUnix> {
  try {
    return connectUnix(path, 'packet')
  } catch (error) {
    const { message } = error as Error
    const remedy = Object.entries(REMEDIES).find(([name]) => message.includes(name))?.[1]
    throw new Error(`Cannot read "${path}": ${remedy ?? message}`)
  }
}
