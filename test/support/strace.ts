// strace(1) attached to all threads of a process: for tests of which calls are made.

import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { until } from './host.ts'

/** strace(1) of all threads of a process, from when it has them all until `end`. */
export class Strace {
  readonly #child: ChildProcess

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  static async attach(pid: number, options: readonly string[]): Promise<Strace> {
    const child = spawn('strace', ['-f', ...options, '-p', `${pid}`], { stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    child.stderr!.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    await until('strace attaches to every thread', () => {
      const threads = readdirSync(`/proc/${pid}/task`).length
      return new RegExp(`with ${threads} threads`).test(said)
    })
    return new Strace(child)
  }

  /** Lets the process go. May be called again. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill('SIGINT')
    await new Promise((resolve) => this.#child.on('exit', resolve))
  }
}
