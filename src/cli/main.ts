import { fstatSync } from 'node:fs'
import { Command, CommanderError, type OutputConfiguration } from 'commander'
import { version } from '../processes/installation.ts'
import { instructed } from '../runtimes/known/index.ts'
import { briefly } from '../shared/texts.ts'
import { commands } from './commands.ts'
import { EXIT_STATUS } from './help-texts.ts'
import { print, printAtOnce, say } from './print.ts'
import { checkUsage, STATUS, sentence, statusFor, UsageError } from './usage.ts'

/** Makes one sentence of what commander says in up to three. */
const inOneSentence = (said: string): string =>
  said
    .replace(/^error: /, '')
    .replace(/\n\(Did you mean ((?:.|\n)*)\?\)$/, ' (did you mean $1?)')
    .replace(/\.? (It|Allowed|Expected) /, (_, word: string) => `: ${word.toLowerCase()} `)
    .replace(/\.$/, '')

/**
 * Returns the error for a command line that commander refuses.
 *
 * @param command the command that it names; undefined if there is no such command
 */
function toUsageError({ message }: CommanderError, command: string | undefined): UsageError {
  const help = ['intercede', ...(command === undefined ? [] : [command]), '--help'].join(' ')
  return new UsageError(`Cannot read the command line: ${inOneSentence(message)}; "${help}" lists what there is`)
}

/**
 * No runtime knows this option. A shell goes on when what stands in `$(...)` fails: without a word of ours, podman
 * would start a container that has none of the options that were asked for.
 */
const REFUSED = '--intercede-flags-failed\n'

/**
 * Returns what `intercede flags` prints when it fails: nothing where its output is lines of a file, which would be
 * broken by them. Its first operand is the runtime; the value of an option may be the name of another.
 */
function failedFlags(args: readonly string[]): string {
  const { options = [] } = commands.find((each) => each.name() === 'flags') ?? {}
  const takesValue = new Set(
    options.flatMap(({ required, optional, short, long }) => (required || optional ? [short, long] : [])),
  )
  const operand = args.find((arg, at) => !arg.startsWith('-') && !(at > 0 && takesValue.has(args[at - 1])))
  const asked = instructed.find(({ name }) => name === operand)
  return asked?.instructions.prints === 'lines' ? '' : REFUSED
}

const isCommand = (word: string | undefined): word is string => commands.some((command) => command.name() === word)

/** What commander would take without a word: it reads no more than it needs of these two. */
function refuseExtra([word, subject, ...extra]: readonly string[]): void {
  const isHelp = word === 'help'
  checkUsage(
    !isHelp || subject === undefined || isHelpFor(subject),
    `Cannot help with ${briefly(subject)}: there is no such command; "intercede --help" lists them`,
  )
  const [over] = isHelp ? extra : word === '-V' || word === '--version' ? [subject] : []
  checkUsage(over === undefined, `Cannot use ${briefly(over)}: "${word}" takes no further words; leave it out`)
}

const isHelpFor = (word: string): boolean => word === 'help' || isCommand(word)

/** What is no device is no terminal: then nobody need ask Node for the stream how wide it is. */
const plainTo = (fd: number): OutputConfiguration =>
  fstatSync(fd).isCharacterDevice() ? {} : { getOutHelpWidth: () => 80, getOutHasColors: () => false }

async function main(words: readonly string[]): Promise<void> {
  refuseExtra(words)
  const program = new Command('intercede')
    .description('System call interception for every unprivileged Linux container')
    .version(version())
    .enablePositionalOptions()
    .addHelpText('after', `\nExit status:\n${EXIT_STATUS}`)
    .configureOutput({ ...plainTo(1), writeOut: printAtOnce, outputError: () => {} })
    .exitOverride()
  for (const command of commands) program.addCommand(command.copyInheritedSettings(program))
  const [word, subject] = words
  // Help about help is that of the program, which lists it.
  await program.parseAsync(word === 'help' && subject === 'help' ? ['help'] : words, { from: 'user' })
}

/** Leaves the exit status and the sentence of an error. */
async function fail(error: unknown, [word, ...rest]: readonly string[]): Promise<void> {
  // It has shown the help: to its standard error, and with a status, if nothing was asked for.
  if (error instanceof CommanderError && /^commander\.(help|version)/.test(error.code)) {
    // The write may have failed already, whose status stays.
    if (error.exitCode !== 0) process.exitCode = STATUS.usage
    return
  }
  const told =
    error instanceof CommanderError ? toUsageError(error, isCommand(word) ? word : undefined) : (error as Error)
  say(sentence(told, word))
  process.exitCode = statusFor(told)
  if (word === 'flags' && !process.stdout.isTTY) print(failedFlags(rest))
}

const words = process.argv.slice(2)
main(words).catch((error: unknown) => fail(error, words))
