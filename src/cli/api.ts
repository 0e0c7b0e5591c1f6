import { Command } from 'commander'
import { FEED_OPTION } from './feed-options.ts'
import { socketPath } from './sockets.ts'

export const command = new Command('api')
  .description('what the daemon shows, over HTTP to programs of this machine: metrics, containers, events, refusals')
  .option('--socket <path>', 'where it answers; without it, at the sockets that systemd passes', socketPath)
  .option(...FEED_OPTION)
  .addHelpText(
    'after',
    `
intercede-api.socket starts it when somebody asks, and it ends when nobody has asked for a minute. It only reads.
The answer to /openapi.json describes all others. Each socket serves 64 connections at once. The Host must be
localhost, and a request has no body.`,
  )
  .action(async (options) => (await import('./api-command.ts')).apiCommand(options))
