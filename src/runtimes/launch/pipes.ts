import { fchownSync, write } from 'node:fs'
import { Socket } from 'node:net'
import { type Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Fd, pipe } from '../../kernel/fd.ts'
import { processGroups } from '../../kernel/process.ts'
import type { IdRange } from './ids.ts'

/** What the runtime gets as its descriptors 0, 1 and 2, and our end of it. */
export interface Stdio extends Disposable {
  /** The runtime's ends, of which `relay` closes our copies. */
  readonly ends: readonly [Fd, Fd, Fd]
  /** Options of the runtime for this kind of stdio. */
  readonly args: readonly string[]
  /**
   * Copies until all output of the container has been written. It is called after the runtime was spawned.
   *
   * @param ended tells whether the runtime has ended
   * @returns why some of the output is lost, if our reader has not gone away but could take no more
   */
  relay(ended: () => boolean): Promise<string | undefined>
}

/** Stdio without a terminal; our own stdin may be left unread. */
export interface Pipes extends Stdio {
  relay(ended: () => boolean, options?: { readonly stdin: boolean }): Promise<string | undefined>
}

const reader = (fd: Fd): Readable => new Socket({ fd: fd.release(), readable: true, writable: false })
const writer = (fd: Fd): Writable => new Socket({ fd: fd.release(), readable: false, writable: true })

/** How often to try again to write to a socket or pipe that somebody has made non-blocking, in milliseconds. */
const RETRY_MS = 5

/**
 * Returns our own output, written by libuv's thread pool: a slow reader must not stop the main thread, which passes
 * signals on. It may not block: Node makes our input so, which may be the same socket.
 */
export function output(fd: 1 | 2): Writable {
  const put = (bytes: Buffer, done: (error?: Error | null) => void): void =>
    write(fd, bytes, (error, written) => {
      if (error?.code === 'EAGAIN') setTimeout(put, RETRY_MS, bytes, done)
      else if (error || written === bytes.length) done(error)
      else put(bytes.subarray(written), done)
    })
  return new Writable({ write: (bytes: Buffer, _encoding, done) => put(bytes, done) })
}

/** Writes what the container has written to its standard error to ours. */
export async function writeError(bytes: Buffer): Promise<void> {
  if (bytes.length === 0) return
  await new Promise<void>((done) => {
    const stream = output(2)
    // Nobody reads it any more.
    stream.on('error', () => done())
    stream.end(bytes, () => done())
  })
}

/**
 * Tells whether our job is in the background of its terminal, or in a session without one, as setsid(1) starts: then
 * the terminal that we see is another session's.
 */
export function inBackground(): boolean {
  const { own, terminal, foreground } = processGroups('self')
  return terminal === 0 || (foreground !== 0 && foreground !== own)
}

/**
 * Copies our own input. In the background it is at its end: the kernel stops a job that reads its terminal there, and
 * what we read of another session's would be missing there.
 */
function copyInput(to: Fd): void {
  if (process.stdin.isTTY && inBackground()) to[Symbol.dispose]()
  else void copy(process.stdin, writer(to))
}

/**
 * Copies until the end of either side. If our reader goes away (`| head`) or takes no more, the container notices it by
 * SIGPIPE.
 *
 * @returns why it takes no more
 */
async function copy(from: Readable, to: Writable, words?: StartWords): Promise<string | undefined> {
  try {
    if (words) await pipeline(from, (chunks) => words.without(chunks), to)
    else await pipeline(from, to)
    return undefined
  } catch (error) {
    from.destroy()
    const { code, message } = error as NodeJS.ErrnoException
    return code === 'EPIPE' ? undefined : message
  }
}

/**
 * Makes three pipes. The container's root may change owner and mode of its stdio, so it never gets files of the host;
 * it owns the pipes, so that it can open /dev/stdout.
 */
export function pipes({ uid, gid }: IdRange, words: StartWords): Pipes {
  const stdin = pipe()
  const stdout = pipe()
  const stderr = pipe()
  const ends = [stdin.read, stdout.write, stderr.write] as const
  for (const end of ends) fchownSync(end.raw, uid, gid)
  return {
    ends,
    args: [],
    async relay(_ended, options) {
      for (const end of ends) end[Symbol.dispose]()
      if (options?.stdin ?? true) copyInput(stdin.write)
      const copies = [copy(reader(stdout.read), output(1)), copy(reader(stderr.read), output(2), words)]
      return (await Promise.all(copies)).find((lost) => lost !== undefined)
    },
    [Symbol.dispose]() {
      for (const end of [...ends, stdin.write, stdout.read, stderr.read]) end[Symbol.dispose]()
    },
  }
}

/** What tini says of a command that it cannot execute, in up to three writes. */
const OF_INIT = '[FATAL tini ('
const UNEXECUTED = /^\[FATAL tini \(\d+\)\] exec .* failed: (.+)\r?\n$/
/** crun says it moments before it logs it. */
const LOGGED_MS = 10
/** In bytes; what the two say is shorter. */
const LIMIT = 16_384

/**
 * Withholds what the runtime and the container's init say if they cannot start the command: we say it then, in one
 * sentence. A command may speak as they do, so that what is withheld is let go if the exit status tells otherwise.
 */
export class StartWords {
  readonly #hasFailed: () => boolean
  #held = Buffer.alloc(0)

  /** @param hasFailed whether the runtime has logged an error */
  constructor(hasFailed: () => boolean) {
    this.#hasFailed = hasFailed
  }

  /** Passes on a stream but for such words at its beginning. */
  async *without(from: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let isOver = false
    for await (const chunk of from) {
      if (isOver) yield chunk
      else {
        this.#held = Buffer.concat([this.#held, chunk])
        isOver = !(await this.#mayBeTheirs())
        if (isOver) yield this.#taken()
      }
    }
  }

  /** Why the init could not execute the command; undefined if it has not said so. */
  get ofInit(): string | undefined {
    return UNEXECUTED.exec(this.#held.toString())?.[1]
  }

  /** Lets go what was the command's own. */
  release(): Buffer {
    return this.#taken()
  }

  async #mayBeTheirs(): Promise<boolean> {
    const text = this.#held.toString()
    if (text.length > LIMIT) return false
    if (UNEXECUTED.test(text)) return true
    if (!text.includes('\n') && (OF_INIT.startsWith(text) || text.startsWith(OF_INIT))) return true
    if (!this.#hasFailed()) await sleep(LOGGED_MS)
    return this.#hasFailed()
  }

  #taken(): Buffer {
    const taken = this.#held
    this.#held = Buffer.alloc(0)
    return taken
  }
}
