import type { CommanderError } from 'commander'
import { UsageError } from './usage.ts'

/** Makes one sentence of what commander says in up to three. */
const inOneSentence = (said: string): string =>
  said
    .replace(/^error: /, '')
    .replace(/\n\(Did you mean ((?:.|\n)*)\?\)$/, ' (did you mean $1?)')
    .replace(/\.? (It|Allowed|Expected) /, (_, word: string) => `: ${word.toLowerCase()} `)
    .replace(/\.$/, '')

/**
 * Returns the error for a command line that commander refuses.
 *
 * @param command the command that it names; undefined if there is no such command
 */
export function refused({ message }: CommanderError, command: string | undefined): UsageError {
  const help = ['intercede', ...(command === undefined ? [] : [command]), '--help'].join(' ')
  return new UsageError(`Cannot read the command line: ${inOneSentence(message)}; "${help}" lists what there is`)
}
