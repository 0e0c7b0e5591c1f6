import type { LogLevel } from '../../policy/config.ts'
import { logLevels } from '../../policy/config-keys.ts'
import { oneLine } from '../../shared/texts.ts'
import { type JournalLog, type LogKind, priorities } from './journal.ts'
import { LineWriter } from './line-writer.ts'

interface Lines {
  write(line: string): void
  close(): void
}

const LOST = 'lines of the log were lost: they came faster than they were read'

/** Writes the log: into the journal, or to standard error with one JSON object a line, as container engines expect. */
export class Log {
  #from: number
  readonly #hasPriorities: boolean
  readonly #lines: Lines
  readonly #journal: JournalLog | undefined

  /**
   * @param level the least important level that is written
   * @param hasPriorities whether each line begins with its priority, such as `<5>`, which the journal removes again
   * @param lines where the lines go; standard error by default
   * @param journal where the lines go instead, if there is a journal
   */
  constructor(level: LogLevel, hasPriorities: boolean, lines?: Lines, journal?: JournalLog) {
    this.#from = logLevels.indexOf(level)
    this.#hasPriorities = hasPriorities
    this.#journal = journal
    this.#lines = lines ?? new LineWriter((count) => this.#line('warn', LOST, { count }))
  }

  set level(level: LogLevel) {
    this.#from = logLevels.indexOf(level)
  }

  write(level: LogLevel, message: string, details: Readonly<Record<string, unknown>> = {}, kind?: LogKind): void {
    if (logLevels.indexOf(level) < this.#from) return
    if (this.#journal) this.#journal.write({ level, message, details, kind })
    else this.#lines.write(this.#line(level, message, details))
  }

  /** Writes what a slow reader has not taken yet. To be called before the program exits. */
  close(): void {
    this.#journal?.close()
    this.#lines.close()
  }

  #line(level: LogLevel, message: string, details: Readonly<Record<string, unknown>>): string {
    const priority = this.#hasPriorities ? `<${priorities[level]}>` : ''
    return `${priority}${oneLine(JSON.stringify({ time: new Date().toISOString(), level, message, ...details }))}\n`
  }
}
