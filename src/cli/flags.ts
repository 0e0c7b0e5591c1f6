import { existsSync, readFileSync } from 'node:fs'
import { Argument, Command, InvalidArgumentError, Option } from 'commander'
import { ineffectiveHere } from '../keeper/ineffective-keys.ts'
import { capabilitiesFor } from '../policy/required-capabilities.ts'
import { ID_COUNT, type Instructions } from '../runtimes/flags.ts'
import { runtimes } from '../runtimes/known/index.ts'
import { givenAnnotations, remarksOn } from './flags-annotations.ts'
import { type FlagsOptions, hasOnlyKeys, placeOf, prepareProfile } from './flags-profile.ts'
import { print, say } from './print.ts'
import { collect } from './run-options.ts'
import { socketPath } from './sockets.ts'
import { mustBe, UsageError } from './usage.ts'
import { policyOptions, wantedPolicy } from './wanted-policy.ts'

const instructed = runtimes.filter(({ instructions }) => instructions)
const namesWith = (trait: 'userDirectory' | 'takesFirstId'): readonly string[] =>
  instructed.filter(({ instructions }) => instructions?.[trait]).map(({ name }) => name)

/** The default of --first-id: a range that useradd gives to users late. */
const FIRST_ID = 300_000

function instructionsFor(name: string, user = false): Instructions {
  const instructions = instructed.find((runtime) => runtime.name === name)!.instructions!
  if (!user) return instructions
  if (!instructions.userDirectory)
    throw new UsageError(
      `Cannot say anything about ${name} of a user: --user is for ${namesWith('userDirectory').join(', ')}; leave it out`,
    )
  // podman makes one user namespace for all containers of a user, and the user's daemon runs in it too.
  return { ...instructions, prepared: [], directory: instructions.userDirectory() }
}

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

const isPrepared = ({ prepared = [] }: Instructions): boolean =>
  prepared.every(([file, text]) => existsSync(file) && text.test(readFileSync(file, 'utf8')))

/** The words of the shell stay as they are only without these characters. */
const SPLIT = /[\s*?[\]]/

/** The options that say something only for some runtimes, or only without others. */
function mustCombine(
  name: string,
  instructions: Instructions,
  options: FlagsOptions,
  isGiven: ReadonlySet<string>,
): void {
  const { annotates, takesFirstId } = instructions
  mustBe(
    !(isGiven.has('base') && isGiven.has('no-base')),
    'Cannot use --base with --no-base: the one names a filter to keep, the other keeps none; leave one of them out',
  )
  mustBe(
    takesFirstId === true || !isGiven.has('first-id'),
    `Cannot use --first-id for ${name}: it chooses the ids of its containers itself; it is for ${namesWith('takesFirstId').join(', ')}`,
  )
  mustBe(
    annotates !== false || !options.annotation?.length,
    `Cannot use -a for ${name}: it has no annotations, and its metadata is all that the daemon sees; use -c`,
  )
}

/** Requires that a shell which puts the output into a command line leaves each line the word that it is. */
function mustStayWords(lines: readonly string[], { prints }: Instructions): void {
  const split = prints === 'options' ? lines.find((line) => SPLIT.test(line)) : undefined
  mustBe(
    split === undefined,
    `Cannot print ${JSON.stringify(split)}: in $(...) the shell would split or expand it; use names without spaces, * ? [ and ]`,
  )
}

function main(name: string, options: FlagsOptions): void {
  const instructions = instructionsFor(name, options.user)
  mustCombine(name, instructions, options, given)
  const annotations = givenAnnotations(options.annotation)
  const wanted = wantedPolicy(options)
  const place = placeOf(wanted, options, instructions)
  const fuse = wanted.ceiling.mount !== undefined && wanted.ceiling.mount.fuse.size > 0
  mustBe(
    !fuse || instructions.mountsFuse !== false,
    `Cannot say anything about ${name}: mount.fuse is not served there; take mount.allowed, or podman`,
  )
  const { lines, besides } = instructions.flags({
    ...{ caps: capabilitiesFor(wanted.ceiling), profile: place.file, metadata: wanted.metadata, annotations, fuse },
    ...{ firstId: options.firstId, listener: options.listener, user: options.user === true },
    ...{ prepared: isPrepared(instructions), onlyKeys: hasOnlyKeys(options) },
  })
  mustStayWords(lines, instructions)
  const remarks = [...besides, ...ineffectiveHere(wanted.settings), ...remarksOn(annotations, wanted, options)]
  prepareProfile({ name, instructions }, wanted, options, place)
  for (const text of remarks) say(text)
  print(`${lines.join('\n')}\n`)
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
  .option('--write [dir]', 'write the profile, instead of saying how')
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
  .action(main)
