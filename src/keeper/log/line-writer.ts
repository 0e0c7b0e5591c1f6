import { writeSync } from 'node:fs'
import { sleepSync } from '../../shared/words.ts'

/** The most bytes that wait for a slow reader: a few thousand lines, which may be written at almost the same time. */
const WAITING_BYTES = 1024 * 1024
/** Interval of attempts to write while the reader is slow. */
const RETRY_MS = 10
/** How long the exit of the process waits for the reader. */
const CLOSE_MS = 500

/** Lines that were not written yet, and how many log lines they represent. */
interface WaitingLines {
  readonly bytes: Buffer
  readonly lines: number
}

/** Writes the beginning of the bytes. @returns how many @throws {Error} with `code`: EAGAIN if the reader is slow */
type Write = (bytes: Buffer) => number

/**
 * Writes whole lines in order, even if the reader of a pipe is slow and writing would block, as with a container
 * engine. Then the lines wait. If there is no room for some, a line reports their number as soon as there is room.
 */
export class LineWriter {
  readonly #lost: (lines: number) => string | Buffer
  readonly #write: Write
  #waiting: WaitingLines[] = []
  #bytes = 0
  #missed = 0
  #timer: NodeJS.Timeout | undefined

  /** @param lost makes the line that says how many lines were lost */
  constructor(lost: (lines: number) => string | Buffer, write: Write = (bytes) => writeSync(2, bytes)) {
    this.#lost = lost
    this.#write = write
  }

  write(line: string | Buffer): void {
    if (this.#bytes >= WAITING_BYTES) this.#missed++
    else {
      this.#sayMissed()
      this.#add(line, 1)
    }
    this.#flush()
  }

  /** Writes the waiting lines that the reader takes within a moment. To be called before the process exits. */
  close(): void {
    for (let ms = 0; !this.#flush() && ms < CLOSE_MS; ms += RETRY_MS) sleepSync(RETRY_MS)
  }

  #add(line: string | Buffer, lines: number): void {
    const bytes = typeof line === 'string' ? Buffer.from(line) : line
    this.#waiting.push({ bytes, lines })
    this.#bytes += bytes.length
  }

  #sayMissed(): void {
    if (this.#missed > 0) this.#add(this.#lost(this.#missed), this.#missed)
    this.#missed = 0
  }

  /**
   * @returns true if no line waits any more
   */
  #flush(): boolean {
    try {
      while (this.#waiting.length > 0) {
        this.#writeFirst()
        if (this.#waiting.length === 0) this.#sayMissed()
      }
      return true
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') this.#retry()
      else this.#drop()
      return this.#waiting.length === 0
    }
  }

  #writeFirst(): void {
    const { bytes, lines } = this.#waiting[0]!
    const written = this.#write(bytes)
    this.#bytes -= written
    if (written === bytes.length) this.#waiting.shift()
    else this.#waiting[0] = { bytes: bytes.subarray(written), lines }
  }

  #retry(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#flush()
    }, RETRY_MS)
    this.#timer.unref()
  }

  /** A log that cannot be written (EPIPE, a full disk) must not end the daemon. */
  #drop(): void {
    this.#missed += this.#waiting.reduce((sum, { lines }) => sum + lines, 0)
    this.#waiting = []
    this.#bytes = 0
  }
}
