import { Command } from 'commander'
import { CONTROL_OPTION, formatOption } from './feed-options.ts'

export const command = new Command('reload')
  .description('let the daemon read its configuration again, and go on as the program that its files are now')
  .option('--dry-run', 'change nothing, but say what would change for which container')
  .addOption(formatOption())
  .option(...CONTROL_OPTION)
  .addHelpText(
    'after',
    `
Only root of the host may. It is what SIGHUP and systemctl reload do, with an answer: what has changed for which container,
or why nothing has. No call is lost.`,
  )
  .action(async (options) => (await import('./read-command.ts')).reloadCommand(options))
