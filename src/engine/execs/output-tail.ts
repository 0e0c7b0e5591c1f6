import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Fd } from '../../kernel/fd.ts'
import { pipe } from '../../kernel/pipe.ts'

/** What is kept of what a program says: the end of it. */
const KEPT = 4096
/** What is read at once; after that the program waits at the full pipe for a while. */
const READ = 256 * 1024
const PAUSE_MS = 50
const LAST_MS = 500

/** The last words of a program of a container, through a pipe. */
export class OutputTail {
  /** The program's end, to be closed when the program has it. */
  readonly writer: Fd
  readonly #socket: Socket
  #kept = Buffer.alloc(0)
  #read = 0

  constructor() {
    const { read, write } = pipe()
    this.writer = write
    this.#socket = new Socket({ fd: read.release(), readable: true, writable: false })
    this.#socket.on('data', (chunk: Buffer) => this.#keep(chunk))
    this.#socket.on('error', () => this.close())
  }

  /** With nothing in it that a terminal or a log would obey. */
  get text(): string {
    return this.#kept
      .toString()
      .replaceAll(/[^\P{C}\n\t]/gu, '?')
      .trim()
  }

  /** Once it cannot say any more, or after a moment: what it has started may have the pipe too. */
  async last(): Promise<string> {
    const ended = new Promise((resolve) => this.#socket.once('close', resolve))
    await Promise.race([ended, sleep(LAST_MS)])
    return this.text
  }

  close(): void {
    this.#socket.destroy()
  }

  #keep(chunk: Buffer): void {
    this.#read += chunk.length
    this.#kept = Buffer.concat([this.#kept, chunk]).subarray(-KEPT)
    if (this.#read < READ) return
    this.#read = 0
    this.#socket.pause()
    setTimeout(() => this.#socket.resume(), PAUSE_MS)
  }
}
