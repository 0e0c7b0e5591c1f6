import { Command } from 'commander'

/** The file of each subcommand, loaded only when needed: most of the start-up time is loading. */
const commands: Record<string, () => Promise<{ readonly command: Command }>> = {
  run: () => import('./run.ts'),
  serve: () => import('./serve.ts'),
  profile: () => import('./profile.ts'),
  flags: () => import('./flags.ts'),
  doctor: () => import('./doctor.ts'),
}

async function main(argv: readonly string[]): Promise<void> {
  const program = new Command('intercede')
    .description('System call interception for every unprivileged Linux container')
    .version('0.1.0')
    .enablePositionalOptions()
  const wanted = commands[argv[2] ?? '']
  const loaders = wanted ? [wanted] : Object.values(commands)
  for (const { command } of await Promise.all(loaders.map((load) => load()))) program.addCommand(command)
  await program.parseAsync(argv as string[])
}

/** Prints the one sentence of an error, and exits with its `exitCode` or 1. */
main(process.argv).catch((error: unknown) => {
  const { message, exitCode } = error as Error & { exitCode?: number }
  process.stderr.write(`intercede: ${message}\n`)
  process.exitCode = exitCode ?? 1
})
