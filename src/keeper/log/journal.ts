import { fstatSync } from 'node:fs'
import { MSG_DONTWAIT } from '../../abi/socket.ts'
import { escaped, escapedAll } from '../../calls/escape.ts'
import { isErrno, SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { bytesFile } from '../../kernel/shared-memory.ts'
import { connectDatagram, send } from '../../kernel/socket.ts'
import type { LogLevel } from '../../policy/config.ts'
import { shortenedId } from '../../shared/texts.ts'
import { LineWriter } from './line-writer.ts'

/** The priorities of syslog, by which `journalctl -p` selects. */
export const priorities: Readonly<Record<LogLevel, number>> = { debug: 7, info: 6, notice: 5, warn: 4, error: 3 }

/** The subjects of log lines, each with a number by which the journal finds its text in the catalog. */
export const messageIds = {
  call: '32d837cab02c4b85b095c8f3c1cadf60',
  refusedCall: '2c8c75fdc9204a01850b935d78923fe0',
  leftOut: '99b37386e4a0412bb08b8549d64cd58e',
  registered: '1b8a6708853644a1b824e08ca7b6a1c5',
  resumed: '75f619c2ad694ebfa9171a95fe4f6662',
  set: '3df4242e48ce4e4697a9b01a95198d2a',
  stopOrdered: '396db88c78dd471d9563e655fb4fe86b',
  joined: 'ef386d0198314798b23f04275d3fba4d',
  ended: '318ced90b6134434aee2f09b56aa8418',
  limit: 'e4e23d356a634270940d5600f08b5dc9',
  refused: '887cd0e1c91c4cb19fb4e0f7e55f5c56',
  fault: '0a65025200654348b7a7147393632d5b',
  engineStarted: 'fde4073c3dc847b3abe5d7fcda8a0cb2',
  engineEnded: '5e67b21dda884fdb943e72e97f33a375',
  program: '9bd2748928554f5c9a6253bb08145b6c',
  recordsLost: '0bc057bc33564346b4d3dc3b6cd36aaa',
  linesLost: '3fb9bd05ee814ed8ba20570a453ac302',
  serving: '3435f1afa42a4141a8e280a527e1262d',
  cannotReload: '62fb1b37f47b45a7acc6e9cd98f58bce',
  reloadOrdered: '26e72b38766b400696af8796606ba624',
} as const
export type LogKind = keyof typeof messageIds

export interface LogEntry {
  readonly level: LogLevel
  readonly message: string
  readonly details: Readonly<Record<string, unknown>>
  readonly kind: LogKind | undefined
}

const LENGTH_SIZE = 8

/** A field with its length before the value, so that the value may have newlines. */
function field(name: string, value: string): Buffer {
  const bytes = Buffer.from(value)
  const length = Buffer.alloc(LENGTH_SIZE)
  length.writeBigUInt64LE(BigInt(bytes.length))
  return Buffer.concat([Buffer.from(`${name}\n`), length, bytes, Buffer.from('\n')])
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '')

function aboutCall({ syscall, verdict, errno, says, remedy, since }: LogEntry['details']): string {
  const word = text(verdict)
  const became = `${text(syscall)} ${word === 'left' ? 'left to the kernel' : word}${errno ? ` ${text(errno)}` : ''}`
  const more = since ? ` (and ${since} more like it)` : ''
  return `${became}: ${text(says)}${remedy ? `; ${text(remedy)}` : ''}${more}`
}

const isCall = (kind: LogEntry['kind']): boolean => kind === 'call' || kind === 'refusedCall'

function sentence({ message, details, kind }: LogEntry): string {
  const { container, cannot } = details
  // The message of a refusal names the container.
  const about = container === undefined || kind === 'refused' ? '' : `${shortenedId(text(container))}: `
  if (isCall(kind)) return `${about}${aboutCall(details)}`
  // In JSON, the one word is enough: the line has all about the container.
  const what = kind === 'registered' ? 'the container was handed over' : message
  return `${about}${what}${Array.isArray(cannot) ? `; ${cannot.join('; ')}` : ''}`
}

/** The fields by which the journal can be searched, if a line has values for them. */
const FIELDS = {
  SYSCALL: 'syscall',
  ERRNO_NAME: 'errno',
  REASON: 'reason',
  SAYS: 'says',
  REMEDY: 'remedy',
} as const

/**
 * Encodes a log line for the journal. Every text is printable ASCII, so that journalctl shows it, and no bytes of a
 * container reach a terminal unescaped.
 *
 * @see systemd.journal-fields(7), https://systemd.io/JOURNAL_NATIVE_PROTOCOL
 */
export function journalEntry(entry: LogEntry): Buffer {
  const { level, details, kind } = entry
  const { container } = details
  const fields: (readonly [string, string])[] = [
    ['MESSAGE', escaped(sentence(entry))],
    ['PRIORITY', String(priorities[level])],
    ['SYSLOG_IDENTIFIER', 'intercede'],
  ]
  if (kind) fields.push(['MESSAGE_ID', messageIds[kind]])
  // "podman logs" and "docker logs" take all lines with CONTAINER_ID_FULL for output of the container.
  if (typeof container === 'string') {
    fields.push(
      ['INTERCEDE_CONTAINER', escaped(shortenedId(container))],
      ['INTERCEDE_CONTAINER_FULL', escaped(container)],
    )
  }
  for (const [name, member] of Object.entries(FIELDS))
    if (details[member] !== undefined) fields.push([name, escaped(text(details[member]))])
  if (details.comm !== undefined) fields.push(['CALLER_COMM', text(details.comm)])
  if (isCall(kind) && details.pid !== undefined) fields.push(['CALLER_PID', String(details.pid)])
  if (details.verdict !== undefined) fields.push(['VERDICT', text(details.verdict)])
  if (Object.keys(details).length > 0) fields.push(['INTERCEDE_DETAILS', JSON.stringify(escapedAll(details))])
  return Buffer.concat(fields.map(([name, value]) => field(name, value)))
}

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
