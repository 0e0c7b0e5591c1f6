import { writeSync } from 'node:fs'
import { type LogLevel, logLevels } from '../../policy/config.ts'

/** The priorities of syslog, by which `journalctl -p` selects. */
const priorities: Readonly<Record<LogLevel, number>> = { debug: 7, info: 6, notice: 5, warn: 4, error: 3 }

/** Writes log lines: one JSON object a line on standard error, as journald and container engines take them. */
export class Log {
  readonly #from: number
  readonly #write: (line: string) => void
  readonly #hasPriorities: boolean

  /**
   * @param level the least important level that is written
   * @param hasPriorities whether each line begins with its priority, as `<5>`, which the journal takes off again
   */
  constructor(level: LogLevel, write: (line: string) => void = (line) => writeSync(2, line), hasPriorities = false) {
    this.#from = logLevels.indexOf(level)
    this.#write = write
    this.#hasPriorities = hasPriorities
  }

  write(level: LogLevel, message: string, details: Readonly<Record<string, unknown>> = {}): void {
    if (logLevels.indexOf(level) < this.#from) return
    const priority = this.#hasPriorities ? `<${priorities[level]}>` : ''
    try {
      this.#write(`${priority}${JSON.stringify({ time: new Date().toISOString(), level, message, ...details })}\n`)
    } catch {
      // A log that cannot be written (EPIPE, EAGAIN, a full disk) must not end the daemon.
    }
  }
}
