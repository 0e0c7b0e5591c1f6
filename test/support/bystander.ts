// Another container of the same engine, which makes a call every 10 ms: what it gets while a test attacks.
// `npm run fuzz -- --attacks` starts it and reads what it says.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { fixture } from './fixtures.ts'

export const BYSTANDER = 'bystander'
/** Its ids are not those of the containers that attack. */
const FIRST = 300_000
const PAUSE_US = 10_000
/** Calls of one line of the fixture. */
const CALLS = 50

/** The file that gets a line of JSON for each engine that a test has started; undefined if nobody wants one. */
export const LINES = process.env.INTERCEDE_BYSTANDER

export class Bystander {
  readonly #directory = mkdtempSync(join(tmpdir(), 'intercede-bystander-'))
  readonly #child: ChildProcess
  readonly #began = Date.now()
  #said = ''

  private constructor(socket: string) {
    chownSync(this.#directory, FIRST, FIRST)
    const loop = `while ${fixture('mknod-loop')} --warmup 0 --count ${CALLS} --pause ${PAUSE_US} ${this.#directory}/n; do :; done`
    const container = [socket, '--userns', `${FIRST}:65536`, '--id', BYSTANDER, '--pidns', '--await-agent']
    this.#child = spawn(fixture('filtered'), [...container, '--', 'sh', '-c', loop], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    this.#child.stdout!.on('data', (data) => {
      this.#said += data
    })
  }

  /** @returns once it has been served */
  static async start(socket: string): Promise<Bystander> {
    const bystander = new Bystander(socket)
    await once(bystander.#child.stdout!, 'data')
    return bystander
  }

  /** @param engines how many engines have ended meanwhile */
  end(engines: number): void {
    this.#child.kill('SIGKILL')
    rmSync(this.#directory, { recursive: true, force: true })
    const ms = Date.now() - this.#began
    const batches = this.#said.split('\n').filter((line) => line.endsWith('}}'))
    const seen = { test: expect.getState().testPath, ms, engines, batches: batches.map((line) => JSON.parse(line)) }
    appendFileSync(LINES!, `${JSON.stringify(seen)}\n`)
  }
}
