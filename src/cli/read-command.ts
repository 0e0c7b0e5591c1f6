/** What the commands do that read what a daemon shows: one bundle, for they have the same library in common. */
export { eventsCommand } from './events-command.ts'
export { explainCommand } from './explain-command.ts'
export { inspectCommand } from './inspect-command.ts'
export { metricsCommand } from './metrics-command.ts'
export { psCommand } from './ps-command.ts'
export { topCommand } from './top-command.ts'
