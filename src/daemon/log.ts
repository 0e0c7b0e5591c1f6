import { writeSync } from 'node:fs'

export const levels = ['debug', 'info', 'warning', 'error'] as const
export type Level = (typeof levels)[number]

/** Structured log lines: one JSON object a line on standard error, as journald and container engines take them. */
export class Log {
  readonly #from: number
  readonly #write: (line: string) => void

  /** @param level the least important one that is written */
  constructor(level: Level, write: (line: string) => void = (line) => writeSync(2, line)) {
    this.#from = levels.indexOf(level)
    this.#write = write
  }

  write(level: Level, message: string, details: Readonly<Record<string, unknown>> = {}): void {
    if (levels.indexOf(level) < this.#from) return
    try {
      this.#write(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...details })}\n`)
    } catch {
      // A log that cannot be written (EPIPE, EAGAIN, a full disk) must not end the daemon.
    }
  }
}
