import { Command, InvalidArgumentError, Option } from 'commander'
import { fieldList, ONLY_FEED_OPTION } from './feed-options.ts'
import { TOP_FIELDS, TOP_SORTS } from './template-fields.ts'

const INTERVAL = 1

function parseInterval(text: string): number {
  const seconds = Number(text)
  if (seconds >= 0.1 && seconds <= 3600) return seconds
  throw new InvalidArgumentError('It must be a number of seconds from 0.1 to 3600.')
}

export const command = new Command('top')
  .description('how often calls are made now: by container and call, what becomes of them, and how long they take')
  .option('--once', 'look once, for one interval')
  .option('--interval <seconds>', `how long each look takes (default: ${INTERVAL})`, parseInterval)
  .addOption(new Option('--sort <field>', 'what comes first').choices(TOP_SORTS).default('rate'))
  .option('--format <format>', 'table, json (one array a look), or a template such as "{container} {rate}"')
  .option(...ONLY_FEED_OPTION)
  .addHelpText(
    'after',
    `
Numbers are calls in a second. P50 and P99 are upper bounds of the durations of so many of the calls of that interval;
IN FLIGHT are the calls of the whole container that are being served, stuck those of them that are for more than ten
seconds; a container that has nothing but these is listed too. Fields of a template: ${fieldList(TOP_FIELDS)}.`,
  )
  .action(async (options) => (await import('./read-command.ts')).topCommand({ interval: INTERVAL, ...options }))
