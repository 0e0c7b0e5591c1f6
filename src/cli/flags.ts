import { Argument, Command, InvalidArgumentError, Option } from 'commander'
import { ID_COUNT } from '../runtimes/flags.ts'
import { instructed, namesWith } from './instructed.ts'
import { policyOptions } from './policy-options.ts'
import { collect, parsePath } from './run-options.ts'
import { socketPath } from './sockets.ts'

/** The default of --first-id: a range that useradd gives to users late. */
const FIRST_ID = 300_000

/** Reads the name of a file: a path would lead out of the directory, and the shell splits and expands other words. */
function parseFileName(text: string): string {
  if (/^\w[\w.+-]{0,199}$/.test(text)) return text
  throw new InvalidArgumentError(
    'It must be a plain name of letters, digits and . _ + -, without a directory, which is for --write.',
  )
}

/** Reads an id of the host, from which all ids of a container follow. */
function parseFirstId(text: string): number {
  const last = 2 ** 32 - 2 - ID_COUNT
  const id = /^\d{1,10}$/.test(text) ? Number(text) : 0
  if (id >= ID_COUNT && id <= last) return id
  throw new InvalidArgumentError(`It must be a number from ${ID_COUNT}, above the ids of the host itself, to ${last}.`)
}

const examples = `
Options of podman, Docker and ctr, lines for LXC, fields of a Pod: on standard output. What
they cannot say is on standard error. If it fails, it prints an option that podman, Docker and
ctr refuse: no container starts without what was asked for.

Examples:
  podman run $(intercede flags podman --profile build --write) IMAGE mknod /tmp/null c 1 3
  podman run $(intercede flags podman -c mknod --write) IMAGE mknod /tmp/null c 1 3
  podman run $(intercede flags podman --user -c sysinfo --write) IMAGE free    # rootless
  intercede flags kubernetes -c mknod -c sysinfo
  intercede flags lxc -c mknod --write >>/var/lib/lxc/NAME/config`

const made = new Command('flags')
  .description('What to tell a runtime so that a container works with these keys')
  .addArgument(new Argument('<runtime>').choices(instructed.map(({ name }) => name)))
for (const option of policyOptions()) made.addOption(option)

/** The options of which commander keeps only the last, or a default. */
const given = new Set<string>()
for (const name of ['base', 'no-base', 'first-id']) made.on(`option:${name}`, () => given.add(name))

export const command = made
  .option('-a, --annotation <KEY=VALUE>', 'as an annotation of the container, may be repeated', collect)
  .option('--write [dir]', 'write the profile, instead of saying how', parsePath)
  .option('--name <name>', 'the name of its file (default: one for these keys)', parseFileName)
  .option('--base <file>', 'the filter to keep (default: that of podman or LXC)')
  .option('--no-base', 'keep none')
  .option('--listener <path>', 'the socket of "intercede serve" (default: that of "intercede profile")', socketPath)
  .option('--user', 'rootless podman, and the socket of "intercede serve --user"')
  .addOption(
    new Option('--first-id <id>', `the first id of the host, for ${namesWith('takesFirstId').join(' and ')}`)
      .argParser(parseFirstId)
      .default(FIRST_ID),
  )
  .addHelpText('after', examples)
  .action(async (name, options) => (await import('./flags-command.ts')).flagsCommand(name, options, given))
