import { Command, InvalidArgumentError } from 'commander'
import { FEED_OPTION, fieldList } from './feed-options.ts'
import { EVENTS_FIELDS, EVENTS_TAIL } from './template-fields.ts'

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** What JavaScript takes for a time beside that, such as "10", nobody means. */
const DATE = /^\d{4}-\d\d-\d\d/

/** Reads a time, or how long ago it was. */
function parseSince(text: string): number {
  const [, number, unit] = /^(\d+)([smhd])$/.exec(text) ?? []
  if (number !== undefined) return Date.now() - Number(number) * UNITS[unit!]!
  const time = DATE.test(text) ? Date.parse(text) : Number.NaN
  if (!Number.isNaN(time)) return time
  throw new InvalidArgumentError('It must be a time such as 2026-01-31T10:00:00Z, or how long ago, as 10m.')
}

function parseTail(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number.')
}

const collect = (value: string, all: readonly string[] = []): readonly string[] => [...all, value]

export const command = new Command('events')
  .description('what happens: every call that was looked at, with why; containers that come and go; engines that end')
  .argument('[container]', 'its id, its name, or the beginning of its id')
  .option('--since <time>', 'from a time on, or from so long ago: 10m', parseSince)
  .option('--after <cursor>', 'go on after an event that was printed before, by its cursor')
  .option(
    '--tail <number>',
    `so many of those that are there already (default: ${EVENTS_TAIL}, and all with --no-follow)`,
    parseTail,
  )
  .option('--no-follow', 'end with what is there already')
  .option(
    '--filter <filter>',
    'such as verdict=left, syscall!=mount, reason~device; with more of them, all must match',
    collect,
  )
  .option('--format <format>', 'table, json (one object a line), strace, or a template such as "{time} {call}"')
  .option(...FEED_OPTION)
  .addHelpText(
    'after',
    `
The ring of records holds the last calls only: older ones are in the log (journalctl -u intercede). What came faster
than it could be read is counted, in a line of type lost. When the daemon ends, that is said, and the next one is
waited for. The arguments of a call that was left are as they were read: the caller may have changed them since.
Fields of a template: ${fieldList(EVENTS_FIELDS)}.`,
  )
  .action(async (word, options) => (await import('./read-command.ts')).eventsCommand(word, options))
