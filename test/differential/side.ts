import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { fixture } from '../support/fixtures.ts'
import { Conversation, HUNG } from './conversation.ts'
import { type DiskType, makeImage, withImage } from './disks.ts'
import type { Places } from './places.ts'
import type { Outcome } from './subject.ts'
import type { Script } from './tree.ts'

/** What a call gave its caller. */
export interface Answer extends Outcome {
  /** What it returned. */
  readonly value?: number
  /** The bytes of an argument "o:" after it. */
  readonly bytes?: Buffer
}

/** "ok VALUE" or the name of an errno, perhaps with bytes behind it; or that there was no answer. */
function parse(line: string): Omit<Answer, 'effect'> {
  if (line === HUNG) return { result: HUNG }
  const [result = '', ...rest] = line.split(' ')
  const value = result === 'ok' ? { value: Number(rest.shift()) } : {}
  return { result, ...value, ...(rest[0] === undefined ? {} : { bytes: Buffer.from(rest[0], 'hex') }) }
}

/** One way to make calls that name a path, with a tree of its own. The effect is what is in the tree then. */
export class Side {
  readonly #process: ChildProcess
  readonly #tree: Conversation
  readonly #calls: Conversation

  /**
   * @param command what starts `batch-calls`, with all its arguments
   * @param type of the file system that is its disk; else it is a directory of ours
   */
  constructor(name: string, places: Places, command: readonly string[], type?: DiskType) {
    const { memory, disk, overlay, raw } = places
    const source = places.source(name)
    const tree = [fixture('batch-tree'), memory, disk, source, overlay, raw, '--', ...command]
    const image = `${source}.image`
    if (type) makeImage(type, image)
    const [program = '', ...args] = type ? withImage(image, source, tree) : tree
    this.#process = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit', 'pipe', 'pipe'] })
    const [to, from, , callsTo, callsFrom] = this.#process.stdio
    this.#tree = new Conversation(`the trees of ${name}`, to as Writable, from as Readable)
    this.#calls = new Conversation(`the calls of ${name}`, callsTo as Writable, callsFrom as Readable)
  }

  /** @param call a line "case ..." for `batch-calls`; a caller that cannot take its place gives "setup ERRNO" */
  async make({ build, close, snap }: Script, call: string): Promise<Answer> {
    await this.#operate(['clean', ...build])
    const [ready = ''] = await this.#calls.ask(`${call}\n`)
    if (ready !== 'ready') return { result: ready, effect: [] }
    await this.#operate(close)
    const [result = ''] = await this.#calls.ask('go\n').catch(() => [HUNG])
    return { ...parse(result), effect: await this.#operate(snap) }
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
