import { Command } from 'commander'
import { FEED_OPTION } from './feed-options.ts'

export const command = new Command('metrics')
  .description('what was counted, as text for Prometheus: for the textfile collector of its node exporter')
  .option(...FEED_OPTION)
  .addHelpText(
    'after',
    `
intercede api answers with the same text to a Prometheus that asks. No series names a container, unless the
configuration of the daemon says "metrics: { container: true }".`,
  )
  .action(async (options) => (await import('./read-command.ts')).metricsCommand(options))
