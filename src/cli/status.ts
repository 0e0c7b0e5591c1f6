import { Command } from 'commander'
import { FEED_OPTION, fieldList } from './feed-options.ts'
import { STATUS_FIELDS } from './template-fields.ts'

export const command = new Command('status')
  .description('the daemon itself: whether it serves, since when, which version, and its engine')
  .option('--format <format>', 'table, json, or a template such as "{pid} {version}"')
  .option(...FEED_OPTION)
  .addHelpText(
    'after',
    `
It ends with 1 if no engine serves now: calls wait for the next one, or are left to the kernel if engines fail all the
time. Fields of a template: ${fieldList(STATUS_FIELDS)}.`,
  )
  .action(async (options) => (await import('./read-command.ts')).statusCommand(options))
