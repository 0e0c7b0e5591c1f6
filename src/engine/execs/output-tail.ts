import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { countedForNobody } from '../../kernel/credentials.ts'
import type { Fd } from '../../kernel/fd.ts'
import { pipe } from '../../kernel/pipe.ts'

/** How many of the last bytes of the output are kept. */
const KEPT = 4096
/** How many bytes are read without a pause. Then the program waits at its full pipe for `PAUSE_MS`. */
const READ = 256 * 1024
const PAUSE_MS = 50
const LAST_MS = 500

/** Keeps the last bytes that a program in a container writes to a pipe. */
export class OutputTail {
  /** The program's end of the pipe; the function that starts the program closes it afterwards. */
  readonly writer: Fd
  readonly #socket: Socket
  #kept = Buffer.alloc(0)
  #read = 0

  constructor() {
    const { read, write } = countedForNobody(pipe)
    this.writer = write
    this.#socket = new Socket({ fd: read.release(), readable: true, writable: false })
    this.#socket.on('data', (chunk: Buffer) => this.#keep(chunk))
    this.#socket.on('error', () => this.close())
  }

  /** Returns the kept output, with control characters replaced, which a terminal or a log would interpret. */
  get text(): string {
    return this.#kept
      .toString()
      .replaceAll(/[^\P{C}\n\t]/gu, '?')
      .trim()
  }

  /** Returns the output at end of file, or after `LAST_MS`, since descendants of the program may keep the pipe open. */
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
