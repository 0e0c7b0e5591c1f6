import { Command } from 'commander'
import { FEED_OPTION, fieldList } from './feed-options.ts'
import { INSPECT_FIELDS } from './template-fields.ts'

export const command = new Command('inspect')
  .description('everything that is known of containers: keys and where they came from, ids, what was refused and why')
  .argument('<container...>', 'its id, its name, or the beginning of its id')
  .option('--format <format>', 'table, json, or a template such as "{id} {cgroup}"')
  .option(...FEED_OPTION)
  .addHelpText('after', `\nFields of a template: ${fieldList(INSPECT_FIELDS)}.`)
  .action(async (words, options) => (await import('./read-command.ts')).inspectCommand(words, options))
