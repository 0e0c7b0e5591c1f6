import { Command } from 'commander'
import { fieldList, ONLY_FEED_OPTION } from './feed-options.ts'
import { PS_FIELDS } from './template-fields.ts'

export const command = new Command('ps')
  .description('the containers that are served: what they may have, and what became of their calls')
  .option('-a, --all', 'also those that have ended last, and the hand-overs that were refused, with the reason')
  .option('--format <format>', 'table, json, or a template such as "{name} {calls}"')
  .option(...ONLY_FEED_OPTION)
  .addHelpText(
    'after',
    `
The words, here and in the other commands: done, for the caller; left to the kernel, which judged the caller as it
is; error, an errno was the answer; gone, the caller went away. P50 is the upper bound of the durations of half of
the calls. Fields of a template: ${fieldList(PS_FIELDS)}.`,
  )
  .action(async (options) => (await import('./read-command.ts')).psCommand(options))
