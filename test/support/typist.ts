// A user who types into a shell with job control on a terminal: for tests of what a terminal does to programs.

import { type ChildProcess, spawn } from 'node:child_process'
import { until } from './host.ts'

/** A prompt of our own: bash takes that of its environment, which a shell that is not interactive removes on the way. */
const PS1 = 'typist> '
/** The shell waits for a command. */
export const PROMPT = /typist> $/

export class Typist {
  readonly #script: ChildProcess
  #seen = ''

  constructor(shell = 'bash --norc --noprofile -i') {
    this.#script = spawn('script', ['-qfec', `PS1='${PS1}' exec ${shell}`, '/dev/null'], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, TERM: 'dumb', HISTFILE: '' },
    })
    this.#script.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#seen += text
    })
  }

  /** Types, after which only what comes later counts as seen. */
  type(text: string): void {
    this.#seen = ''
    this.#script.stdin?.write(text)
  }

  /** Waits until the terminal shows it. @returns all that it has shown since something was typed */
  async sees(text: RegExp): Promise<string> {
    await until(`the terminal shows ${text}`, () => text.test(this.#seen)).catch((error: Error) => {
      throw new Error(`${error.message}: ${JSON.stringify(this.#seen.slice(-500))}`)
    })
    return this.#seen
  }

  /** Closes the terminal, as its window is closed. */
  hangUp(): void {
    this.#script.kill('SIGKILL')
  }
}
