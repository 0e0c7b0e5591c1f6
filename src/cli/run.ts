import { Command, Option } from 'commander'
import { ociRuntimes } from '../runtimes/known/index.ts'
import { STOP_SECONDS } from '../runtimes/launch/stop-seconds.ts'
import { RUN_HELP } from './run-help.ts'
import {
  collect,
  parseDirectory,
  parseEnv,
  parseName,
  parseSeconds,
  parseSize,
  parseUser,
  parseWorkdir,
} from './run-options.ts'

const names = ociRuntimes.map(({ name }) => name)

export const command = new Command('run')
  .description(
    "Run a command in a container of its own, by default over the host's file systems, thrown away at the end",
  )
  .argument('<command...>', 'the command with its arguments')
  .passThroughOptions()
  .option(
    '-c, --config <key=value>',
    'a key of security.syscalls.intercept.*, or its short form such as "mknod"',
    collect,
  )
  .option('--rootfs <dir>', "the container's root, instead of the host's file systems", parseDirectory)
  .option('--expose-host', "let the container's root read every file of the host")
  .option(
    '--bind <path[:path][:ro][:idmap]>',
    'show a directory or file of the host; with idmap its owners have the same numbers in the container',
    collect,
  )
  .option('--device <path[:path]>', 'allow a device of the host', collect)
  .option('--memory <size>', 'the most memory that it may use, such as 512m', parseSize)
  .addOption(new Option('--net <mode>', 'its network').choices(['none', 'host']).default('none'))
  .addOption(new Option('--runtime <name>', `the OCI runtime (default: ${names.join(', else ')})`).choices(names))
  .option('--name <name>', 'its host name', parseName)
  .option('--env <key=value>', 'a variable of its environment; a KEY alone is passed on', parseEnv)
  .option('--workdir <dir>', 'where the command starts', parseWorkdir)
  .option('--user <uid[:gid]>', 'as whom the command starts', parseUser)
  .option('--no-init', 'make the command the first process, which gets no signal that it has no handler for')
  .option(
    '--stop-timeout <seconds>',
    `from SIGINT or SIGTERM until it is killed (default: ${STOP_SECONDS})`,
    parseSeconds,
  )
  .option('--explain', 'say at once, on standard error, why a call was refused')
  .option('--quiet', 'do not say at the end what was refused')
  .addHelpText('after', RUN_HELP)
  .action(async (words, options) => (await import('./run-command.ts')).runCommand(words, options))
