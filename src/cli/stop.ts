import { Command } from 'commander'

export const command = new Command('stop')
  .description('end a container of intercede run, as its terminal could')
  .argument('<container...>', 'its id as ps lists it, or the number of the process of run')
  .option('--kill', 'at once, instead of by SIGTERM and, after its --stop-timeout, by SIGKILL')
  .addHelpText(
    'after',
    `
Only root may. All others are ended by what has started them: podman stop, kubectl delete.`,
  )
  .action(async (words, options) => (await import('./read-command.ts')).stopCommand(words, options))
