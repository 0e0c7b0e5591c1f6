import { Command } from 'commander'
import { FEED_OPTION, fieldList } from './feed-options.ts'
import { EXPLAIN_FIELDS } from './template-fields.ts'

export const command = new Command('explain')
  .description('each kind of refusal: how often, what was asked, why not, and what to change')
  .argument('[container or reason]', 'the id or name of a container, or the code of a reason, as deviceNotAllowed')
  .option('--format <format>', 'table, json, or a template such as "{count} {call} {remedy}"')
  .option(...FEED_OPTION)
  .addHelpText('after', `\nFields of a template: ${fieldList(EXPLAIN_FIELDS)}.`)
  .action(async (word, options) => (await import('./read-command.ts')).explainCommand(word, options))
