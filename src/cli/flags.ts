import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Argument, Command, Option } from 'commander'
import { ineffectiveHere } from '../keeper/ineffective-keys.ts'
import { deviceNames } from '../kernel/device-names.ts'
import { parseConfig } from '../policy/config.ts'
import { formatLines, type KeyValueLine, PROFILE, parseAssignment } from '../policy/key-value-lines.ts'
import { capabilitiesFor } from '../policy/required-capabilities.ts'
import { resolve } from '../policy/resolve.ts'
import { mustServeUser } from '../policy/rootless.ts'
import { effective, settle, toPolicy } from '../policy/settings.ts'
import type { Instructions } from '../runtimes/flags.ts'
import { runtimes } from '../runtimes/known/index.ts'
import { rulesFor } from '../syscalls/index.ts'
import { makeProfile, type ProfileOptions, socketPath, writeProfile } from './make-profile.ts'
import { profileName } from './profile-name.ts'
import { collect } from './run-options.ts'

interface Options {
  readonly config?: readonly string[]
  readonly annotation?: readonly string[]
  readonly base?: string | false
  readonly name?: string
  readonly firstId: string
  readonly listener?: string
  readonly user?: true
  /** A directory, or true for the default directory. */
  readonly write?: string | true
}

const instructed = runtimes.filter(({ instructions }) => instructions)
const namesOfUsers = instructed.filter(({ instructions }) => instructions?.userDirectory).map(({ name }) => name)

function instructionsFor(name: string, user = false): Instructions {
  const instructions = instructed.find((runtime) => runtime.name === name)!.instructions!
  if (!user) return instructions
  if (!instructions.userDirectory)
    throw new Error(`Cannot say anything about ${name} of a user: --user is for ${namesOfUsers.join(', ')}`)
  // podman makes one user namespace for all containers of a user, and the user's daemon runs in it too.
  return { ...instructions, prepared: [], directory: instructions.userDirectory() }
}

const say = (text: string): void => void process.stderr.write(`intercede: ${text}\n`)
const quote = (word: string): string => (/^[\w./:=,@+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)

/** Lists the annotations that a configuration without a section `annotations` ignores. */
function ignored(
  entries: readonly KeyValueLine[],
  annotations: readonly (readonly [string, string])[],
): readonly string[] {
  const metadata = formatLines({ entries })
  const { notes } = resolve(
    parseConfig('', ''),
    { metadata, annotations: Object.fromEntries(annotations) },
    deviceNames,
  )
  return notes.map(({ key, why }) => {
    const section = key === PROFILE ? 'annotations.profiles' : 'annotations.raise'
    return `${key}: ${why}; unless ${section} of the daemon's configuration lists it`
  })
}

const isPrepared = ({ prepared = [] }: Instructions): boolean =>
  prepared.every(([file, text]) => existsSync(file) && text.test(readFileSync(file, 'utf8')))

/** Chooses the filter that stays in force for calls that are not trapped. */
function baseFor(name: string, { base: usual }: Instructions, { base: wanted }: Options): string | undefined {
  const there = usual !== undefined && existsSync(usual) ? usual : undefined
  const chosen = wanted === false ? undefined : (wanted ?? there)
  if (chosen === undefined)
    say(`the profile will allow all that it does not trap, in place of the filter of ${name}; --base FILE keeps one`)
  return chosen
}

/** The arguments of `intercede profile` that make the same profile. */
function wordsFor({
  config = [],
  target,
  base,
  listener,
  user,
  capAdd = [],
  output,
}: ProfileOptions): readonly string[] {
  const option = (name: string, value: string | undefined): readonly string[] =>
    value === undefined ? [] : [name, value]
  return [
    'profile',
    ...config.flatMap((key) => ['-c', key]),
    ...(target ? ['--runtime', target.name] : ['--format', 'lxc']),
    ...option('--base', base),
    ...option('--listener', listener),
    ...(user ? ['--user'] : []),
    ...capAdd.flatMap((cap) => ['--cap-add', cap]),
    ...option('--output', output),
  ]
}

/** Writes the profile, or prints the command that writes it. The lines for LXC that name it are in our own output. */
function provide(profile: ProfileOptions & { readonly output: string }, now: boolean): void {
  if (!now) {
    say(`write the profile first: intercede ${wordsFor(profile).map(quote).join(' ')}`)
    return
  }
  mkdirSync(dirname(profile.output), { recursive: true })
  writeProfile(makeProfile(profile).text, profile.output)
}

function main(name: string, options: Options): void {
  const entries: readonly KeyValueLine[] = (options.config ?? []).map((text) => parseAssignment(text))
  const settings = settle(entries)
  const policy = toPolicy(settings, deviceNames)
  if (options.user) mustServeUser(policy)
  if (rulesFor(policy).length === 0)
    throw new Error(`Cannot say anything: ${ineffectiveHere(settings).join('; ') || 'no key is on; try -c mknod'}`)
  const given = effective(settings).filter(({ origin }) => origin === 'given')
  const annotations = (options.annotation ?? []).map((text) => parseAssignment(text))
  // A value that is invalid in every configuration is an error; annotations that only ours ignores are listed below.
  settle(annotations.filter(([key]) => key !== PROFILE))
  const instructions = instructionsFor(name, options.user)
  const directory = typeof options.write === 'string' ? options.write : instructions.directory
  const keys = given.map(({ key, text }) => `${key}=${text}`)
  const file = join(
    directory,
    `${options.name ?? profileName(Object.keys(policy), keys, options.listener)}${instructions.ending}`,
  )
  const caps = capabilitiesFor(policy)
  if (options.write !== undefined || !existsSync(file)) {
    const base = baseFor(name, instructions, options)
    const { config, listener, user } = options
    const { target } = instructions
    const capAdd = base !== undefined && target && !target.resolvesGuards ? caps : []
    provide({ config, target, base, listener, user, capAdd, output: file }, options.write !== undefined)
  }

  const { lines, besides } = instructions.flags({
    caps,
    profile: file,
    keys,
    annotations,
    firstId: Number(options.firstId),
    listener: options.listener,
    prepared: isPrepared(instructions),
    user: options.user === true,
    fuse: policy.mount !== undefined && policy.mount.fuse.size > 0,
  })
  for (const text of [...besides, ...ineffectiveHere(settings), ...ignored(entries, annotations)]) say(text)
  process.stdout.write(`${lines.join('\n')}\n`)
}

const examples = `
Options of podman, Docker and ctr, lines for LXC, fields of a Pod: on standard output. What
they cannot say is on standard error.

Examples:
  podman run $(intercede flags podman -c mknod --write) IMAGE mknod /tmp/null c 1 3
  podman run $(intercede flags podman --user -c sysinfo --write) IMAGE free    # rootless
  intercede flags kubernetes -c mknod -c sysinfo
  intercede flags lxc -c mknod --write >>/var/lib/lxc/NAME/config`

export const command = new Command('flags')
  .description('What to tell a runtime so that a container works with these keys')
  .addArgument(new Argument('<runtime>').choices(instructed.map(({ name }) => name)))
  .option('-c, --config <KEY[=VALUE]>', 'set a policy key, may be repeated', collect)
  .option('-a, --annotation <KEY=VALUE>', 'as an annotation of the container, may be repeated', collect)
  .option('--write [dir]', 'write the profile, instead of saying how')
  .option('--name <name>', 'the name of its file (default: one for these keys)')
  .option('--base <file>', 'the filter to keep (default: that of podman or LXC)')
  .option('--no-base', 'keep none')
  .option('--listener <path>', 'the socket of "intercede serve" (default: that of "intercede profile")', socketPath)
  .option('--user', 'rootless podman, and the socket of "intercede serve --user"')
  .addOption(new Option('--first-id <id>', 'the first id of the host, for containerd and LXC').default('300000'))
  .addHelpText('after', examples)
  .action(main)
