import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { fixture } from '../fixtures.ts'
import type { Places } from './places.ts'
import type { Script } from './tree.ts'

/** What one call gave on one side: `ok` or the name of an errno, and a line for each thing that is in the tree then. */
export interface Outcome {
  readonly result: string
  readonly tree: readonly string[]
}

/** Seconds that one step of a case may take: a call that hangs shall be named. */
const PATIENCE = 3

/** The result of a call that did not come back; its side is of no use any more. */
export const HUNG = 'no answer'

/** Lines to and from a process that answers each request before it is sent the next. */
class Conversation {
  readonly #to: Writable
  #rest = ''
  #lines: string[] = []
  #until: ((line: string) => boolean) | undefined
  #resolve: ((lines: string[]) => void) | undefined
  #reject: ((error: Error) => void) | undefined

  constructor(to: Writable, from: Readable) {
    this.#to = to
    to.on('error', () => {})
    from.setEncoding('latin1')
    from.on('data', (text: string) => this.#take(text))
    from.on('end', () => this.#reject?.(new Error('A process of the harness ended early')))
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

/** One way to make the calls, with a tree of its own. */
export class Side {
  readonly #process: ChildProcess
  readonly #tree: Conversation
  readonly #calls: Conversation

  /** @param command what starts `batch-calls`, with all its arguments */
  constructor(name: string, places: Places, command: readonly string[]) {
    const { memory, disk, overlay, raw } = places
    const args = [memory, disk, places.source(name), overlay, raw, '--', ...command]
    this.#process = spawn(fixture('batch-tree'), args, { stdio: ['pipe', 'pipe', 'inherit', 'pipe', 'pipe'] })
    const [to, from, , callsTo, callsFrom] = this.#process.stdio
    this.#tree = new Conversation(to as Writable, from as Readable)
    this.#calls = new Conversation(callsTo as Writable, callsFrom as Readable)
  }

  /** @param call a line "case ..." for `batch-calls`; a caller that cannot take its place gives "setup ERRNO" */
  async make({ build, close, snap }: Script, call: string): Promise<Outcome> {
    await this.#operate(['clean', ...build])
    const [ready = ''] = await this.#calls.ask(`${call}\n`)
    if (ready !== 'ready') return { result: ready, tree: [] }
    await this.#operate(close)
    const [result = ''] = await this.#calls.ask('go\n').catch(() => [HUNG])
    return { result: result.startsWith('ok') ? 'ok' : result, tree: await this.#operate(snap) }
  }

  async #operate(operations: readonly string[]): Promise<string[]> {
    const ends = (line: string): boolean => line === 'done' || line.startsWith('fail ')
    const lines = await this.#tree.ask([...operations, 'end\n'].join('\n'), ends)
    if (lines.at(-1) !== 'done') throw new Error(`Cannot build a tree: ${lines.at(-1)} in\n${readable(operations)}`)
    return lines.slice(0, -1)
  }

  /** Ends its processes, also such that hang, and with them their mounts; what they held on disk is gone before. */
  async close(): Promise<void> {
    if (this.#process.exitCode !== null) return
    const ended = new Promise((resolve) => this.#process.on('exit', resolve))
    ;(this.#process.stdio[3] as Writable).end()
    this.#process.stdin?.end()
    await ended
  }
}

/** Hexadecimal words as text, for messages. */
const readable = (lines: readonly string[]): string =>
  lines
    .join('\n')
    .replaceAll(/\b(?:[0-9a-f]{2}){3,}\b/g, (word) => JSON.stringify(Buffer.from(word, 'hex').toString('latin1')))
