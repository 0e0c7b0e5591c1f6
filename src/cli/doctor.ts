import { Command } from 'commander'
import { FEED_OPTION } from './feed-options.ts'

export const command = new Command('doctor')
  .description('what this kernel and machine can do, and what to do about the rest')
  .option('--json', 'print the findings as one JSON object')
  .option(
    '--bundle <file>',
    'collect what helps with a fault into a new tar archive: the findings, versions, mounts, the configuration, the units, the containers and last calls, and the log',
  )
  .option(FEED_OPTION[0], `with --bundle: ${FEED_OPTION[1]}`)
  .action(async (options) => (await import('./doctor-command.ts')).doctorCommand(options))
