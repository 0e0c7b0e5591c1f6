import { readdirSync, readFileSync } from 'node:fs'
import type { CallRecord } from '../../src/calls/record.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { fixture } from '../fixtures.ts'
import { Host, USERNS, until } from '../kernel/host.ts'

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

  /** @param records that a call leaves: none if it is not trapped */
  count(records: 0 | 1 = 1): void {
    this.#last = records
    this.#calls += records
    this.#host.drain()
  }

  /** How many records there must be. */
  get calls(): number {
    return this.#calls
  }

  /** What was noted about the last call; undefined if it was not trapped. */
  async record(): Promise<CallRecord | undefined> {
    const noted = (): boolean => {
      this.#host.drain()
      return this.#host.records.length >= this.#calls
    }
    if (this.#last === 0) return undefined
    if (!noted()) await until('a record', noted, 2).catch(() => {})
    return this.#host.records[this.#calls - 1]
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
