import { writeSync } from 'node:fs'
import { type LogLevel, logLevels } from '../../policy/config.ts'

/** Writes log lines: one JSON object a line on standard error, as journald and container engines take them. */
export class Log {
  readonly #from: number
  readonly #write: (line: string) => void

  /** @param level the least important level that is written */
  constructor(level: LogLevel, write: (line: string) => void = (line) => writeSync(2, line)) {
    this.#from = logLevels.indexOf(level)
    this.#write = write
  }

  write(level: LogLevel, message: string, details: Readonly<Record<string, unknown>> = {}): void {
    if (logLevels.indexOf(level) < this.#from) return
    try {
      this.#write(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...details })}\n`)
    } catch {
      // A log that cannot be written (EPIPE, EAGAIN, a full disk) must not end the daemon.
    }
  }
}
