import { readFileSync } from 'node:fs'
import { Argument, Command, Option } from 'commander'
import { FEED_OPTION } from './feed-options.ts'
import { type Asked, LISTS, type ListName } from './offers.ts'
import { printAtOnce } from './print.ts'
import { mustBe } from './usage.ts'

/** The file for each shell, by the name under which it finds the file; `scripts/completions.js` makes them. */
export const FILES = { bash: 'intercede.bash', zsh: '_intercede', fish: 'intercede.fish' } as const
type Shell = keyof typeof FILES

interface CompletionOptions extends Partial<Asked> {
  readonly list?: ListName
}

export const command = new Command('completion')
  .description('print what lets a shell complete the words of intercede')
  .addArgument(new Argument('[shell]', 'the shell that reads it').choices(Object.keys(FILES)))
  // The files ask by these.
  .addOption(new Option('--list <what>').choices(LISTS).hideHelp())
  .addOption(new Option('--begun <text>').hideHelp())
  .addOption(new Option(...FEED_OPTION).hideHelp())
  .addOption(new Option('--daemon-config <file>').hideHelp())
  .addOption(new Option('--user').hideHelp())
  .addHelpText(
    'after',
    `
It is for a shell to read, if it is not installed with the package of Debian:

  source <(intercede completion bash)
  source <(intercede completion zsh)        after compinit
  intercede completion fish | source`,
  )
  .action(async (shell: Shell | undefined, { list, begun = '', ...whom }: CompletionOptions) => {
    if (list === 'profiles') return (await import('./flags-command.ts')).listProfiles({ begun, ...whom })
    if (list !== undefined) return (await import('./read-command.ts')).listCommand(list, { begun, ...whom })
    mustBe(
      shell !== undefined,
      `Cannot print a completion: no shell is named; name one of ${Object.keys(FILES).join(', ')}`,
    )
    printAtOnce(readFileSync(new URL(`../completions/${FILES[shell!]}`, import.meta.url), 'utf8'))
  })
