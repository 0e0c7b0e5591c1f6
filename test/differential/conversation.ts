import type { Readable, Writable } from 'node:stream'

/** Seconds that one step of a case may take: a call that hangs shall be named. Mounts take more than three on a busy machine. */
const PATIENCE = 20

/** The result of a call that did not come back; its side is of no use any more. */
export const HUNG = 'no answer'

/** Lines to and from a process that answers each request before it is sent the next. */
export class Conversation {
  readonly #to: Writable
  #rest = ''
  #lines: string[] = []
  #until: ((line: string) => boolean) | undefined
  #resolve: ((lines: string[]) => void) | undefined
  #reject: ((error: Error) => void) | undefined

  /** @param who answers, for messages */
  constructor(who: string, to: Writable, from: Readable) {
    this.#to = to
    to.on('error', () => {})
    from.setEncoding('latin1')
    from.on('data', (text: string) => this.#take(text))
    from.on('end', () => this.#reject?.(new Error(`A process of the harness ended early: ${who}`)))
  }

  /** @param last tells the line that ends the answer */
  ask(text: string, last: (line: string) => boolean = () => true): Promise<string[]> {
    let late: NodeJS.Timeout | undefined
    const answer = new Promise<string[]>((resolve, reject) => {
      this.#lines = []
      this.#until = last
      this.#resolve = resolve
      this.#reject = reject
      this.#to.write(text)
      late = setTimeout(
        () => reject(new Error(`No answer within ${PATIENCE} s: ${text.slice(0, 4000)}`)),
        1000 * PATIENCE,
      )
    })
    return answer.finally(() => clearTimeout(late))
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop()!
    for (const line of lines) {
      this.#lines.push(line)
      if (this.#until?.(line)) this.#resolve?.(this.#lines)
    }
  }
}
