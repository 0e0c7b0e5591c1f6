import { Command } from 'commander'
import { CONTROL_OPTION, FEED_OPTION, formatOption } from './feed-options.ts'
import { collect } from './run-options.ts'

export const command = new Command('set')
  .description('change what a running container may have, at once and until it ends')
  .argument('<container>', 'its id, its name, or the beginning of its id')
  .argument('[key=value...]', 'a key of security.syscalls.intercept.*, or its short form such as "mknod"')
  .option(
    '--unset <key>',
    'let a key that was set be again what profile and configuration say; may be repeated',
    collect,
  )
  .addOption(formatOption())
  .option(...CONTROL_OPTION)
  .option(...FEED_OPTION)
  .addHelpText(
    'after',
    `
Only root of the host may. What is set holds over the metadata and annotations of the container, and ends with it: a
container that is started again has what its profile says. It survives a reload, and the end of an engine. A call that is
being served ends under the policy it began with. Refused are keys above their ceiling in the configuration, keys whose
calls the filter of the container does not trap, and keys that need what was not kept of the container.`,
  )
  .action(async (word, keys, options) => (await import('./read-command.ts')).setCommand(word, keys, options))
