import { output } from '../runtimes/launch/stdio.ts'
import { oneLine } from '../shared/one-line.ts'

/** What `run` says of itself on standard error, beside the container's output. */
export interface Notes {
  say(text: string): void
  /** Resolves when everything has been written, or nobody reads it any more. */
  end(): Promise<void>
}

/** Says it when the container has ended, since the terminal is the container's until then. */
export class NotesAtEnd implements Notes {
  readonly #texts: string[] = []

  say(text: string): void {
    this.#texts.push(text)
  }

  async end(): Promise<void> {
    for (const text of this.#texts) process.stderr.write(`intercede: ${oneLine(text)}\n`)
  }
}

/** Says it at once. A reader that does not read must not stop the main thread, which passes signals on. */
export class NotesAtOnce implements Notes {
  readonly #stream = output(2).on('error', () => {})
  /** A terminal is raw while the container has it: a line feed alone would not return to its left edge. */
  readonly #end = process.stderr.isTTY ? '\r\n' : '\n'

  say(text: string): void {
    this.#stream.write(`intercede: ${oneLine(text)}${this.#end}`)
  }

  end(): Promise<void> {
    return new Promise((resolve) => this.#stream.end(() => resolve()))
  }
}
