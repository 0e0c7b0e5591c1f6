import type { LogLevel } from '../../policy/config.ts'
import { logLevels } from '../../policy/config-keys.ts'
import { oneLine } from '../../shared/one-line.ts'
import type { JournalLog } from './journal.ts'
import { type LogKind, priorities } from './journal-entry.ts'
import { LineWriter } from './line-writer.ts'

/** Writes the lines of a log, whole. */
interface Lines {
  write(line: string): void
  close(): void
}

const LOST = 'lines of the log were lost: they came faster than they were read'

/** Writes the log: into the journal, or one JSON object a line on standard error, as container engines take it. */
export class Log {
  readonly #from: number
  readonly #hasPriorities: boolean
  readonly #lines: Lines
  readonly #journal: JournalLog | undefined

  /**
   * @param level the least important level that is written
   * @param hasPriorities whether each line begins with its priority, as `<5>`, which the journal takes off again
   * @param lines where they go; standard error, if it is left out
   * @param journal where they go instead, if there is one
   */
  constructor(level: LogLevel, hasPriorities: boolean, lines?: Lines, journal?: JournalLog) {
    this.#from = logLevels.indexOf(level)
    this.#hasPriorities = hasPriorities
    this.#journal = journal
    this.#lines = lines ?? new LineWriter((count) => this.#line('warn', LOST, { count }))
  }

  /** @param kind what it is about, for the journal */
  write(level: LogLevel, message: string, details: Readonly<Record<string, unknown>> = {}, kind?: LogKind): void {
    if (logLevels.indexOf(level) < this.#from) return
    if (this.#journal) this.#journal.write({ level, message, details, kind })
    else this.#lines.write(this.#line(level, message, details))
  }

  /** Writes what a slow reader has not taken yet. For the end of the program. */
  close(): void {
    this.#journal?.close()
    this.#lines.close()
  }

  #line(level: LogLevel, message: string, details: Readonly<Record<string, unknown>>): string {
    const priority = this.#hasPriorities ? `<${priorities[level]}>` : ''
    return `${priority}${oneLine(JSON.stringify({ time: new Date().toISOString(), level, message, ...details }))}\n`
  }
}
