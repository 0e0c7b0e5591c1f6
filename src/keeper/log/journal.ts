import { fstatSync } from 'node:fs'
import { MSG_DONTWAIT } from '../../abi/socket.ts'
import { isErrno, SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { bytesFile } from '../../kernel/shared-memory.ts'
import { connectDatagram, send } from '../../kernel/socket.ts'
import { journalEntry, type LogEntry } from './journal-entry.ts'
import { LineWriter } from './line-writer.ts'

const SOCKET = '/run/systemd/journal/socket'
/** In bytes: larger messages are sent as a file. */
const DATAGRAM = 64 * 1024
const LOST = 'lines of the log were lost: they came faster than the journal took them, or there was none'

/**
 * Returns whether a descriptor is a stream of systemd's journal, which takes `<N>` at the beginning of a line as its
 * priority. The variable alone proves nothing: a child inherits it, and may write elsewhere.
 *
 * @see systemd.exec(5) $JOURNAL_STREAM, sd-daemon(3)
 */
export function isJournalStream(fd: number, env: NodeJS.ProcessEnv = process.env): boolean {
  const { JOURNAL_STREAM: stream } = env
  if (!stream) return false
  const { dev, ino } = fstatSync(fd, { bigint: true })
  return stream === `${dev}:${ino}`
}

/** The socket of the journal. It takes a message as a whole or not at all, and we never wait for it. */
class JournalSocket {
  readonly #path: string
  #socket: Fd

  /**
   * @throws {SyscallError} if there is no journal
   */
  constructor(path: string) {
    this.#path = path
    this.#socket = connectDatagram(path)
  }

  /** @throws {Error} with `code`: EAGAIN if the journal is slow; anything else if it has not taken the message */
  write(bytes: Buffer): number {
    try {
      this.#attempt(bytes)
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      const { message } = error
      const isSlow = isErrno(error, 'EAGAIN', 'ETOOMANYREFS')
      throw Object.assign(new Error(message), { code: isSlow ? 'EAGAIN' : message })
    }
    return bytes.length
  }

  /** A restarted journal may have another socket. */
  #attempt(bytes: Buffer): void {
    try {
      this.#send(bytes)
    } catch (error) {
      if (!isErrno(error, 'ECONNREFUSED', 'ECONNRESET', 'EPIPE')) throw error
      const next = connectDatagram(this.#path)
      this.#socket[Symbol.dispose]()
      this.#socket = next
      this.#send(bytes)
    }
  }

  #send(bytes: Buffer): void {
    if (bytes.length <= DATAGRAM) {
      send(this.#socket, bytes, [], MSG_DONTWAIT)
      return
    }
    using file = bytesFile('intercede-log', bytes)
    send(this.#socket, new Uint8Array(), [file], MSG_DONTWAIT)
  }
}

/** Writes the log into the journal, in its native protocol. */
export class JournalLog {
  readonly #lines: LineWriter

  /**
   * @throws {SyscallError} if there is no journal @param onLost called with the number of lost lines
   */
  constructor(onLost: (lines: number) => void = () => {}, path = SOCKET) {
    const socket = new JournalSocket(path)
    const lost = (count: number): Buffer => {
      onLost(count)
      return journalEntry({ level: 'warn', message: LOST, details: { count }, kind: 'linesLost' })
    }
    this.#lines = new LineWriter(lost, (bytes) => socket.write(bytes))
  }

  write(entry: LogEntry): void {
    this.#lines.write(journalEntry(entry))
  }

  /** Writes what the journal has not taken yet. To be called before the program exits. */
  close(): void {
    this.#lines.close()
  }
}

/** Returns the journal if our standard error is a stream of it. */
export function ownJournal(onLost: (lines: number) => void): JournalLog | undefined {
  if (!isJournalStream(2)) return undefined
  try {
    return new JournalLog(onLost)
  } catch (error) {
    // The stream exists, and takes lines with priorities.
    if (error instanceof SyscallError) return undefined
    throw error
  }
}
