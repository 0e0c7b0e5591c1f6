import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { fixture } from '../fixtures.ts'
import { Conversation, HUNG } from './conversation.ts'
import type { Places } from './places.ts'
import type { Outcome } from './subject.ts'
import type { Script } from './tree.ts'

/** One way to make calls that name a path, with a tree of its own. The effect is what is in the tree then. */
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
    if (ready !== 'ready') return { result: ready, effect: [] }
    await this.#operate(close)
    const [result = ''] = await this.#calls.ask('go\n').catch(() => [HUNG])
    return { result: result.startsWith('ok') ? 'ok' : result, effect: await this.#operate(snap) }
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
