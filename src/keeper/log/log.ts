import { type LogLevel, logLevels } from '../../policy/config.ts'
import { oneLine } from '../../shared/one-line.ts'
import { LineWriter } from './line-writer.ts'

/** The priorities of syslog, by which `journalctl -p` selects. */
const priorities: Readonly<Record<LogLevel, number>> = { debug: 7, info: 6, notice: 5, warn: 4, error: 3 }

/** Writes the lines of a log, whole. */
interface Lines {
  write(line: string): void
  close(): void
}

const LOST = 'lines of the log were lost: they came faster than they were read'

/** Writes log lines: one JSON object a line on standard error, as journald and container engines take them. */
export class Log {
  readonly #from: number
  readonly #hasPriorities: boolean
  readonly #lines: Lines

  /**
   * @param level the least important level that is written
   * @param hasPriorities whether each line begins with its priority, as `<5>`, which the journal takes off again
   * @param lines where they go; standard error, if it is left out
   */
  constructor(level: LogLevel, hasPriorities: boolean, lines?: Lines) {
    this.#from = logLevels.indexOf(level)
    this.#hasPriorities = hasPriorities
    this.#lines = lines ?? new LineWriter((count) => this.#line('warn', LOST, { count }))
  }

  write(level: LogLevel, message: string, details: Readonly<Record<string, unknown>> = {}): void {
    if (logLevels.indexOf(level) >= this.#from) this.#lines.write(this.#line(level, message, details))
  }

  /** Writes what a slow reader has not taken yet. For the end of the program. */
  close(): void {
    this.#lines.close()
  }

  #line(level: LogLevel, message: string, details: Readonly<Record<string, unknown>>): string {
    const priority = this.#hasPriorities ? `<${priorities[level]}>` : ''
    return `${priority}${oneLine(JSON.stringify({ time: new Date().toISOString(), level, message, ...details }))}\n`
  }
}
