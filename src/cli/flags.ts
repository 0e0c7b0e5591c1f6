import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Argument, Command, Option } from 'commander'
import { idleHere } from '../daemon/idle.ts'
import type { Target } from '../filter/target.ts'
import { deviceNames } from '../kernel/device-names.ts'
import { parseConfig } from '../policy/config.ts'
import { type Entry, formatLines, PROFILE, parseAssignment } from '../policy/lines.ts'
import { capabilitiesFor } from '../policy/needs.ts'
import { resolve } from '../policy/resolve.ts'
import { effective, settle, toPolicy } from '../policy/settings.ts'
import { mustServeUser } from '../policy/user.ts'
import { type Engine, engines, KUBELET_FOLDER, KUBELET_PROFILES } from '../runtimes/flags.ts'
import { rulesFor } from '../syscalls/index.ts'
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
  /** A directory, or true for the usual one. */
  readonly write?: string | true
}

interface Reader {
  /** Who reads the profile, in the words of `intercede profile`. */
  readonly format: readonly string[]
  readonly directory: string
  /** One for each runtime in a directory: the files of two differ in their filters and flags. */
  readonly ending: string
  /** The filter that the runtime would use without ours, where it lies in a file. */
  readonly base?: string
  /** What must stand in these files for containers to have user namespaces. */
  readonly prepared?: readonly (readonly [file: string, text: RegExp])[]
}

const oci = (target: Target, directory = '/etc/intercede'): Reader => ({
  format: ['--runtime', target],
  directory,
  ending: '.json',
})

const readers: Record<Engine, Reader> = {
  podman: {
    ...oci('podman'),
    base: '/usr/share/containers/seccomp.json',
    prepared: ['/etc/subuid', '/etc/subgid'].map((file) => [file, /^containers:/m] as const),
  },
  docker: { ...oci('docker'), ending: '.docker.json', prepared: [['/etc/docker/daemon.json', /"userns-remap"/]] },
  containerd: { ...oci('runc'), ending: '.containerd.json' },
  kubernetes: oci('runc', join(KUBELET_PROFILES, KUBELET_FOLDER)),
  lxc: {
    ...{ format: ['--format', 'lxc'], directory: '/etc/intercede', ending: '.seccomp' },
    base: '/usr/share/lxc/config/common.seccomp',
  },
}

/** Of a user, whose containers have the user namespace that podman made: as the daemon of that user has. */
const forUsers: Reader = {
  ...readers.podman,
  prepared: [],
  get directory() {
    const { XDG_CONFIG_HOME: config, HOME: home = '/' } = process.env
    return join(config?.startsWith('/') ? config : join(home, '.config'), 'intercede')
  },
}

function readerOf(engine: Engine, user = false): Reader {
  if (!user) return readers[engine]
  if (engine !== 'podman') throw new Error(`Cannot say anything about ${engine} of a user: --user is for podman`)
  return forUsers
}

const say = (text: string): void => void process.stderr.write(`intercede: ${text}\n`)
const quote = (word: string): string => (/^[\w./:=,@+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)

/** What the annotations would not do under a configuration that says nothing about them. */
function ignored(entries: readonly Entry[], annotations: readonly (readonly [string, string])[]): readonly string[] {
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

const isPrepared = ({ prepared = [] }: Reader): boolean =>
  prepared.every(([file, text]) => existsSync(file) && text.test(readFileSync(file, 'utf8')))

/** The arguments of `intercede profile` that write the file. */
function profileCommand(engine: Engine, file: string, caps: readonly string[], options: Options): readonly string[] {
  const { format, base } = readerOf(engine, options.user)
  const usual = base !== undefined && existsSync(base) ? base : undefined
  const chosen = options.base === false ? undefined : (options.base ?? usual)
  if (chosen === undefined) {
    say(`the profile will allow all that it does not trap, in place of the filter of ${engine}; --base FILE keeps one`)
  }
  const keys = (options.config ?? []).flatMap((key) => ['-c', key])
  const guards = chosen !== undefined && format[1] === 'runc' ? caps.flatMap((cap) => ['--cap-add', cap]) : []
  return [
    'profile',
    ...keys,
    ...format,
    ...(chosen === undefined ? [] : ['--base', chosen]),
    ...(options.listener === undefined ? [] : ['--listener', options.listener]),
    ...(options.user ? ['--user'] : []),
    ...guards,
    '--output',
    file,
  ]
}

/** Runs the very command that is otherwise shown; what it prints for LXC is among our own lines. */
function write(directory: string, command: readonly string[]): void {
  mkdirSync(directory, { recursive: true })
  const { status, stderr } = spawnSync(process.execPath, [process.argv[1]!, ...command], { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr.trim().replace(/^intercede: /, ''))
}

function main(engine: Engine, options: Options): void {
  const entries: readonly Entry[] = (options.config ?? []).map((text) => parseAssignment(text))
  const settings = settle(entries)
  const policy = toPolicy(settings, deviceNames)
  if (options.user) mustServeUser(policy)
  if (rulesFor(policy).length === 0)
    throw new Error(`Cannot say anything: ${idleHere(settings).join('; ') || 'no key is on; try -c mknod'}`)
  const given = effective(settings).filter(({ origin }) => origin === 'given')
  const annotations = (options.annotation ?? []).map((text) => parseAssignment(text))
  // A value that no configuration would take is a mistake; what one could let them do is said below.
  settle(annotations.filter(([key]) => key !== PROFILE))
  const reader = readerOf(engine, options.user)
  const { directory: usual, ending } = reader
  const directory = typeof options.write === 'string' ? options.write : usual
  const keys = given.map(({ key, text }) => `${key}=${text}`)
  const file = join(directory, `${options.name ?? profileName(Object.keys(policy), keys, options.listener)}${ending}`)
  const caps = capabilitiesFor(policy)
  if (options.write !== undefined) write(directory, profileCommand(engine, file, caps, options))
  else if (!existsSync(file)) {
    const command = profileCommand(engine, file, caps, options)
    say(`write the profile first: intercede ${command.map(quote).join(' ')}`)
  }

  const { lines, besides } = engines[engine]({
    caps,
    profile: file,
    keys,
    annotations,
    firstId: Number(options.firstId),
    listener: options.listener,
    prepared: isPrepared(reader),
    user: options.user === true,
    fuse: policy.mount !== undefined && policy.mount.fuse.size > 0,
  })
  for (const text of [...besides, ...idleHere(settings), ...ignored(entries, annotations)]) say(text)
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
  .addArgument(new Argument('<runtime>').choices(Object.keys(engines)))
  .option('-c, --config <KEY[=VALUE]>', 'set a policy key, may be repeated', collect)
  .option('-a, --annotation <KEY=VALUE>', 'as an annotation of the container, may be repeated', collect)
  .option('--write [dir]', 'write the profile, instead of saying how')
  .option('--name <name>', 'the name of its file (default: one for these keys)')
  .option('--base <file>', 'the filter to keep (default: that of podman or LXC)')
  .option('--no-base', 'keep none')
  .option('--listener <path>', 'the socket of "intercede serve" (default: that of "intercede profile")')
  .option('--user', 'rootless podman, and the socket of "intercede serve --user"')
  .addOption(new Option('--first-id <id>', 'the first id of the host, for containerd and LXC').default('300000'))
  .addHelpText('after', examples)
  .action(main)
