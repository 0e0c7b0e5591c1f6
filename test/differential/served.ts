import { readdirSync, readFileSync } from 'node:fs'
import type { CallRecord } from '../../src/calls/record.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { fixture } from '../support/fixtures.ts'
import { Host, USERNS, until } from '../support/host.ts'

/** The engine that serves one side of a comparison, and what it noted; the records of each call must be counted. */
export class Served {
  readonly #host: Host
  #calls = 0
  #last = 0

  private constructor(host: Host) {
    this.#host = host
  }

  static async start(policy?: Policy): Promise<Served> {
    return new Served(await Host.start(policy))
  }

  /** How to start a program in a container that this engine serves, or in one like it that nobody does. */
  contained(program: string, served: boolean, more: readonly string[] = []): readonly string[] {
    const how = served ? '--await-agent' : '--no-filter'
    return [fixture('filtered'), this.#host.socket, '--userns', USERNS, '--pidns', how, ...more, '--', program]
  }

  /**
   * Waits for what a call leaves: the next one may be served by another thread, and be noted first.
   *
   * @param records none if it is not trapped
   */
  async count(records: 0 | 1 = 1): Promise<void> {
    this.#last = records
    this.#calls += records
    if (!this.#isNoted) await until('a record', () => this.#isNoted, 2).catch(() => {})
  }

  get #isNoted(): boolean {
    this.#host.drain()
    return this.#host.records.length >= this.#calls
  }

  /** How many records there must be. */
  get calls(): number {
    return this.#calls
  }

  /** What was noted about the last call; undefined if it was not trapped. */
  get record(): CallRecord | undefined {
    return this.#last === 0 ? undefined : this.#host.records[this.#calls - 1]
  }

  /** The last call gets no answer, and so no record. */
  skip(): void {
    this.#calls = this.#host.records.length
  }

  /** Where the threads of an engine that does not answer are: state, and the system call that they wait in. */
  get threads(): readonly string[] {
    const pid = this.#host.enginePid
    return readdirSync(`/proc/${pid}/task`).map((tid) => {
      const read = (name: string): string => readFileSync(`/proc/${pid}/task/${tid}/${name}`, 'utf8').trim()
      const state = /State:\t(\S)/.exec(read('status'))?.[1]
      return `thread ${tid} ${read('comm')}: ${state} ${read('wchan')} ${read('syscall')}`
    })
  }

  close(): void {
    this.#host.close()
  }
}
