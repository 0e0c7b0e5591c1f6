import { Command } from 'commander'

export const command = new Command('doctor')
  .description('what this kernel and machine can do, and what to do about the rest')
  .option('--json', 'print the findings as one JSON object')
  .action(async (options) => (await import('./doctor-command.ts')).doctorCommand(options))
