import { Argument, Command, Option } from 'commander'
import { CONTROL_SOCKET } from '../keeper/control/protocol.ts'
import { FEED_SOCKET } from '../memories/feed-path.ts'
import { sampleConfig } from '../policy/config-sample.ts'
import { fullName } from '../policy/key.ts'
import { keyNames } from '../policy/key-names.ts'
import { keys } from '../policy/keys.ts'
import { instructed, namesWith, ociRuntimes, targets, unresolved } from '../runtimes/known/index.ts'
import { STOP_SECONDS } from '../runtimes/runtime.ts'
import { FILES, LISTS, printCompletion } from './completion.ts'
import { configFile } from './config-file.ts'
import { EVENTS_TAIL, FORMATS, type Format, TOP_SORTS } from './formats.ts'
import * as value from './option-values.ts'
import { LXC_SOCKET, SOCKET } from './sockets.ts'

/*
 * The whole command line, with its help. What a command does is in the file of its name, which is loaded when it is to
 * be done: most of the start-up time is loading. scripts/bundle.js makes a bundle of each, or of several that share
 * code.
 */

/** What the exit status of any command means, for the help and the manual. */
export const EXIT_STATUS = `  0    it is done
  1    the answer is no: of doctor, of profile --check and of serve --check-config; there is no such container, or no engine
  2    the command line means nothing
  125  the command line was understood, and what it asks for failed
       run ends with 126 and 127 as podman does, and else with the status of its command`

const WHERE = `(default: ${FEED_SOCKET}; of a user's daemon, intercede/feed.sock in XDG_RUNTIME_DIR)`
/** The option of all commands that read what a daemon shows. */
const FEED_OPTION = ['--feed <path>', `the socket of the daemon ${WHERE}`] as const
/** The same of lists, in which the runs of the machine are too. */
const ONLY_FEED_OPTION = [FEED_OPTION[0], `the socket of the daemon, and no "run" beside it ${WHERE}`] as const
/** The option of all commands that give the daemon orders. */
const CONTROL_OPTION = [
  '--control <path>',
  `the socket on which the daemon takes orders (default: ${CONTROL_SOCKET}, or control.sock beside --feed)`,
] as const

/** The format of what has no rows. */
const formatOption = (): Option =>
  new Option('--format <format>', 'how the answer is printed').choices(['table', 'json']).default('table')

/** Lists the fields of a template, for the help. */
const listFields = ({ fields }: Format): string => fields.map((name) => `{${name}}`).join(' ')

/** Makes the options of `profile` and `flags` that say what a container may have. */
const policyOptions = (): readonly Option[] => [
  new Option('-c, --config <KEY[=VALUE]>', 'set a policy key, may be repeated').argParser(value.collect),
  new Option('--profile <name>', "take this profile of the daemon's configuration, also as it will be edited later"),
  new Option(
    '--trap <KEY[=VALUE]>',
    "trap the calls of this key too, so that the daemon's configuration may turn it on later; may be repeated",
  ).argParser(value.collect),
  new Option('--daemon-config <file>', `where that profile is (default: ${configFile(false)})`),
]

const RUN_HELP = `
Signals reach the command. SIGINT and SIGTERM, sent a second time, or not obeyed for the time of --stop-timeout, kill the
container; so does whatever ends intercede itself.

Exit status:
  that of the command, or 128 + N if signal N ended it (143: SIGTERM, 137: SIGKILL, or it was killed as above)
  2    the command line means nothing
  125  intercede could not start it, or there was no room for its output
  126  the command cannot be executed
  127  there is no such command

Examples:
  intercede run -- id                               the host's files, read by nobody; what is written is thrown away
  intercede run -c mknod --explain -- sh            says at once why a call was refused
  intercede run --bind /srv/src:ro -- make -C /srv/src check
  intercede run --bind /srv/conf:/etc/app.conf:ro -- app
  install -d -m 700 /srv/trees                      keeps users of the host out of what is below
  mkdir /srv/trees/trixie                           keeps what is made, with the owners as seen inside:
  intercede run -c mknod --net host --bind /srv/trees/trixie:idmap -- debootstrap --variant=minbase trixie /srv/trees/trixie
  intercede run --rootfs /srv/trees/trixie -- bash  starts it`

const runtimeNames = ociRuntimes.map(({ name }) => name)

const run = new Command('run')
  .description(
    "Run a command in a container of its own, by default over the host's file systems, thrown away at the end",
  )
  .argument('<command...>', 'the command with its arguments')
  .passThroughOptions()
  .option(
    '-c, --config <key=value>',
    'a key of security.syscalls.intercept.*, or its short form such as "mknod"',
    value.collect,
  )
  .option('--rootfs <dir>', "the container's root, instead of the host's file systems", value.parsePath)
  .option('--expose-host', "let the container's root read every file of the host")
  .option(
    '--bind <path[:path][:ro][:idmap]>',
    'show a directory or file of the host; with idmap its owners have the same numbers in the container',
    value.collect,
  )
  .option('--device <path[:path]>', 'allow a device of the host', value.collect)
  .option('--memory <size>', 'the most memory that it may use, such as 512m', value.parseSize)
  .addOption(new Option('--net <mode>', 'its network').choices(['none', 'host']).default('none'))
  .addOption(
    new Option('--runtime <name>', `the OCI runtime (default: ${runtimeNames.join(', else ')})`).choices(runtimeNames),
  )
  .option('--name <name>', 'its host name', value.parseName)
  .option('--env <key=value>', 'a variable of its environment; a KEY alone is passed on', value.parseEnv)
  .option('--workdir <dir>', 'where the command starts', value.parseWorkdir)
  .option('--user <uid[:gid]>', 'as whom the command starts', value.parseUser)
  .option('--no-init', 'make the command the first process, which gets no signal that it has no handler for')
  .option(
    '--stop-timeout <seconds>',
    `from SIGINT or SIGTERM until it is killed (default: ${STOP_SECONDS})`,
    value.parseSeconds,
  )
  .option('--explain', 'say at once, on standard error, why a call was refused')
  .option('--quiet', 'do not say at the end what was refused')
  .addHelpText('after', RUN_HELP)
  .action(async (words, options) => (await import('./run.ts')).runCommand(words, options))

const serve = new Command('serve')
  .description('the daemon: serves the containers that runtimes hand over')
  .option(
    '--config <file>',
    `YAML with default, profiles, annotations, ceiling, log, limits and reload (default: ${configFile(false)} if it is there, with --user intercede/config.yaml in XDG_CONFIG_HOME)`,
  )
  .option('--user', 'serve the containers of a user, in its own user namespace: sysinfo and mount.fuse')
  .option(
    '--socket <path>',
    `where runtimes connect: listenerPath of the profile (default: ${SOCKET}, with --user intercede/oci.sock in XDG_RUNTIME_DIR)`,
    value.parseSocketPath,
  )
  .option(
    '--lxc-socket <path>',
    'where LXC connects: lxc.seccomp.notify.proxy (default: lxc.sock beside the other; with --user none)',
    value.parseSocketPath,
  )
  .option(
    '--feed-socket <path>',
    'where intercede ps, inspect and events connect, and members of the group intercede may (default: feed.sock beside the other)',
    value.parseSocketPath,
  )
  .option(
    '--control-socket <path>',
    'where intercede set and reload connect, of root alone (default: control.sock beside the other; with --user none)',
    value.parseSocketPath,
  )
  .option('--check-config', 'serve nothing, but say what the configuration means: every effective key of each profile')
  // The running daemon passes this to the program that is to replace it, see keeper/reexec.ts.
  .addOption(new Option('--takes-over <format>').hideHelp())
  .addHelpText(
    'after',
    () => `
Without a configuration only what a container's own profile brings along is done (see intercede profile).
It may come later: SIGHUP reads it then. All of it is optional:

${sampleConfig()
  .map((line) => `  ${line}\n`)
  .join('')}
A user serves rootless containers by "podman unshare intercede serve --user": what the kernel lets
only root of the host do, such as making devices, is left to the kernel there.

It logs one JSON object a line on standard error, and into the journal itself if that is the journal's. It ends on
SIGTERM and SIGINT. On SIGHUP it reads the configuration again and goes on as the program that its files are now; without SIGHUP too, soon after
they were replaced, unless reload is manual. No call is lost; if it cannot be, it says why and goes on as it is.`,
  )
  .action(async (options) => (await import('./serve.ts')).serveCommand(options))

const KEY_HELP = keyNames
  .map(
    (name) =>
      `  ${fullName(name)}\n      ${keys[name].help}\n      ${keys[name].allowed}; default ${keys[name].default || 'none'}`,
  )
  .join('\n')

const PROFILE_HELP = `
The file is filter and policy in one: the runtime installs the filter, and hands the
listener with the policy to "intercede serve". With --profile the policy is the name of
a profile of the daemon's configuration, and the filter traps what that profile needs now,
and what --trap adds: an edit of the profile reaches containers that run, within that.

Examples:
  # the profile "build" of the daemon's configuration: its keys are not in the file, and may change while containers run
  intercede profile --profile build --output build.json

  # the character devices that are harmless, and /dev/net/tun
  intercede profile -c mknod -c mknod.devices=c:10:200 --output mknod.json
  podman run --interactive --userns=auto --cap-add MKNOD --security-opt seccomp=mknod.json IMAGE

  # the same calls on top of podman's own profile, as linux.seccomp of a bundle for runc
  intercede profile -c mknod -c sysinfo --runtime runc --base /usr/share/containers/seccomp.json

  # for LXC: writes the file, and prints the lines for the configuration of the container
  intercede profile --format lxc -c mknod --base /usr/share/lxc/config/common.seccomp \\
    --output /etc/lxc/mknod.seccomp | tee -a /var/lib/lxc/NAME/config

Keys (the part up to "intercept." may be left out; a boolean alone means true):
${KEY_HELP}`

const profile = new Command('profile').description(
  'Make a seccomp profile for a container runtime: what to trap, and the policy for it',
)
for (const option of policyOptions()) profile.addOption(option)

profile
  .addOption(
    new Option('--format <format>', 'OCI linux.seccomp, or a policy of LXC').choices(['oci', 'lxc']).default('oci'),
  )
  .addOption(
    new Option('--runtime <runtime>', 'with the format oci: who reads the file')
      .choices(targets.map(({ name }) => name))
      .default(ociRuntimes[0]!.name),
  )
  .option('--base <file>', 'keep the meaning of this profile for all that is not trapped')
  .option(
    '--cap-add <cap>',
    `with --base for ${unresolved.join(' and ')}: a capability beyond the usual ones`,
    value.parseCap,
  )
  .option(
    '--listener <path>',
    `the socket of "intercede serve" (default: ${SOCKET}, for lxc ${LXC_SOCKET})`,
    value.parseSocketPath,
  )
  .option('--user', 'the socket is that of "intercede serve --user", in XDG_RUNTIME_DIR')
  .option('--output <file>', 'write there instead of to stdout', value.parsePath)
  .option(
    '--check <file>',
    'make nothing, but say what is wrong or unwise about this profile for --runtime, with the configuration of --daemon-config',
  )
  .addHelpText('after', PROFILE_HELP)
  .action(async (options, self) => (await import('./profile.ts')).profileCommand(options, self))

/** The default of --first-id: a range that useradd gives to users late. */
const FIRST_ID = 300_000

const FLAGS_HELP = `
Options of podman, Docker and ctr, lines for LXC, fields of a Pod: on standard output. What
they cannot say is on standard error. If it fails, it prints an option that podman, Docker and
ctr refuse: no container starts without what was asked for.

Examples:
  podman run $(intercede flags podman --profile build --write) IMAGE mknod /tmp/null c 1 3
  podman run $(intercede flags podman -c mknod --write) IMAGE mknod /tmp/null c 1 3
  podman run $(intercede flags podman --user -c sysinfo --write) IMAGE free    # rootless
  intercede flags kubernetes -c mknod -c sysinfo
  intercede flags lxc -c mknod --write >>/var/lib/lxc/NAME/config`

const flags = new Command('flags')
  .description('What to tell a runtime so that a container works with these keys')
  .addArgument(new Argument('<runtime>').choices(instructed.map(({ name }) => name)))
for (const option of policyOptions()) flags.addOption(option)

/** The options of which commander keeps only the last, or a default. */
const givenFlags = new Set<string>()
for (const name of ['base', 'no-base', 'first-id']) flags.on(`option:${name}`, () => givenFlags.add(name))

flags
  .option('-a, --annotation <KEY=VALUE>', 'as an annotation of the container, may be repeated', value.collect)
  .option('--write [dir]', 'write the profile, instead of saying how', value.parsePath)
  .option('--name <name>', 'the name of its file (default: one for these keys)', value.parseFileName)
  .option('--base <file>', 'the filter to keep (default: that of podman or LXC)')
  .option('--no-base', 'keep none')
  .option(
    '--listener <path>',
    'the socket of "intercede serve" (default: that of "intercede profile")',
    value.parseSocketPath,
  )
  .option('--user', 'rootless podman, and the socket of "intercede serve --user"')
  .addOption(
    new Option('--first-id <id>', `the first id of the host, for ${namesWith('takesFirstId').join(' and ')}`)
      .argParser(value.parseFirstId)
      .default(FIRST_ID),
  )
  .addHelpText('after', FLAGS_HELP)
  .action(async (name, options) => (await import('./flags.ts')).flagsCommand(name, options, givenFlags))

const doctor = new Command('doctor')
  .description('what this kernel and machine can do, and what to do about the rest')
  .option('--json', 'print the findings as one JSON object')
  .option(
    '--bundle <file>',
    'collect what helps with a fault into a new tar archive: the findings, versions, mounts, the configuration, the units, the containers and last calls, and the log',
  )
  .option(FEED_OPTION[0], `with --bundle: ${FEED_OPTION[1]}`)
  .action(async (options) => (await import('./doctor.ts')).doctorCommand(options))

const ps = new Command('ps')
  .description('the containers that are served: what they may have, and what became of their calls')
  .option('-a, --all', 'also those that have ended last, and the hand-overs that were refused, with the reason')
  .option('--format <format>', 'table, json, or a template such as "{name} {calls}"')
  .option(...ONLY_FEED_OPTION)
  .addHelpText(
    'after',
    `
The words, here and in the other commands: done, for the caller; left to the kernel, which judged the caller as it
is; error, an errno was the answer; gone, the caller went away. P50 is the upper bound of the durations of half of
the calls. Fields of a template: ${listFields(FORMATS.ps)}.`,
  )
  .action(async (options) => (await import('./ps.ts')).psCommand(options))

const inspect = new Command('inspect')
  .description('everything that is known of containers: keys and where they came from, ids, what was refused and why')
  .argument('<container...>', 'its id, its name, or the beginning of its id')
  .option('--format <format>', 'table, json, or a template such as "{id} {cgroup}"')
  .option(...FEED_OPTION)
  .addHelpText('after', `\nFields of a template: ${listFields(FORMATS.inspect)}.`)
  .action(async (words, options) => (await import('./inspect.ts')).inspectCommand(words, options))

const events = new Command('events')
  .description('what happens: every call that was looked at, with why; containers that come and go; engines that end')
  .argument('[container]', 'its id, its name, or the beginning of its id')
  .option('--since <time>', 'from a time on, or from so long ago: 10m', value.parseSince)
  .option('--after <cursor>', 'go on after an event that was printed before, by its cursor')
  .option(
    '--tail <number>',
    `so many of those that are there already (default: ${EVENTS_TAIL}, and all with --no-follow)`,
    value.parseTail,
  )
  .option('--no-follow', 'end with what is there already')
  .option(
    '--filter <filter>',
    'such as verdict=left, syscall!=mount, reason~device; with more of them, all must match',
    value.collect,
  )
  .option('--format <format>', 'table, json (one object a line), strace, or a template such as "{time} {call}"')
  .option(...FEED_OPTION)
  .addHelpText(
    'after',
    `
The ring of records holds the last calls only: older ones are in the log (journalctl -u intercede). What came faster
than it could be read is counted, in a line of type lost. When the daemon ends, that is said, and the next one is
waited for. The arguments of a call that was left are as they were read: the caller may have changed them since.
Fields of a template: ${listFields(FORMATS.events)}.`,
  )
  .action(async (word, options) => (await import('./events.ts')).eventsCommand(word, options))

const TOP_INTERVAL = 1

const top = new Command('top')
  .description('how often calls are made now: by container and call, what becomes of them, and how long they take')
  .option('--once', 'look once, for one interval')
  .option('--interval <seconds>', `how long each look takes (default: ${TOP_INTERVAL})`, value.parseInterval)
  .addOption(new Option('--sort <field>', 'what comes first').choices(TOP_SORTS).default('rate'))
  .option('--format <format>', 'table, json (one array a look), or a template such as "{container} {rate}"')
  .option(...ONLY_FEED_OPTION)
  .addHelpText(
    'after',
    `
Numbers are calls in a second. P50 and P99 are upper bounds of the durations of so many of the calls of that interval;
IN FLIGHT are the calls of the whole container that are being served, stuck those of them that are for more than ten
seconds; a container that has nothing but these is listed too. Fields of a template: ${listFields(FORMATS.top)}.`,
  )
  .action(async (options) => (await import('./top.ts')).topCommand({ interval: TOP_INTERVAL, ...options }))

const explain = new Command('explain')
  .description('each kind of refusal: how often, what was asked, why not, and what to change')
  .argument('[container or reason]', 'the id or name of a container, or the code of a reason, as deviceNotAllowed')
  .option('--format <format>', 'table, json, or a template such as "{count} {call} {remedy}"')
  .option(...FEED_OPTION)
  .addHelpText('after', `\nFields of a template: ${listFields(FORMATS.explain)}.`)
  .action(async (word, options) => (await import('./explain.ts')).explainCommand(word, options))

const metrics = new Command('metrics')
  .description('what was counted, as text for Prometheus: for the textfile collector of its node exporter')
  .option(...FEED_OPTION)
  .addHelpText(
    'after',
    `
intercede api answers with the same text to a Prometheus that asks. No series names a container, unless the
configuration of the daemon says "metrics: { container: true }".`,
  )
  .action(async (options) => (await import('./metrics.ts')).metricsCommand(options))

const api = new Command('api')
  .description('what the daemon shows, over HTTP to programs of this machine: metrics, containers, events, refusals')
  .option('--socket <path>', 'where it answers; without it, at the sockets that systemd passes', value.parseSocketPath)
  .option(...FEED_OPTION)
  .addHelpText(
    'after',
    `
intercede-api.socket starts it when somebody asks, and it ends when nobody has asked for a minute. It only reads.
The answer to /openapi.json describes all others. Each socket serves 64 connections at once. The Host must be
localhost, and a request has no body.`,
  )
  .action(async (options) => (await import('./api.ts')).apiCommand(options))

const set = new Command('set')
  .description('change what a running container may have, at once and until it ends')
  .argument('<container>', 'its id, its name, or the beginning of its id')
  .argument('[key=value...]', 'a key of security.syscalls.intercept.*, or its short form such as "mknod"')
  .option(
    '--unset <key>',
    'let a key that was set be again what profile and configuration say; may be repeated',
    value.collect,
  )
  .addOption(formatOption())
  .option(...CONTROL_OPTION)
  .option(...FEED_OPTION)
  .addHelpText(
    'after',
    `
Only root of the host may. What is set holds over the metadata and annotations of the container, and ends with it: a
container that is started again has what its profile says. It survives a reload, and the end of an engine. A call that is
being served ends under the policy it began with. Refused are keys above their ceiling in the configuration, keys whose
calls the filter of the container does not trap, and keys that need what was not kept of the container.`,
  )
  .action(async (word, keys, options) => (await import('./set.ts')).setCommand(word, keys, options))

const reload = new Command('reload')
  .description('let the daemon read its configuration again, and go on as the program that its files are now')
  .option('--dry-run', 'change nothing, but say what would change for which container')
  .addOption(formatOption())
  .option(...CONTROL_OPTION)
  .addHelpText(
    'after',
    `
Only root of the host may. It is what SIGHUP and systemctl reload do, with an answer: what has changed for which container,
or why nothing has. No call is lost.`,
  )
  .action(async (options) => (await import('./reload.ts')).reloadCommand(options))

const status = new Command('status')
  .description('the daemon itself: whether it serves, since when, which version, and its engine')
  .option('--format <format>', 'table, json, or a template such as "{pid} {version}"')
  .option(...FEED_OPTION)
  .addHelpText(
    'after',
    `
It ends with 1 if no engine serves now: calls wait for the next one, or are left to the kernel if engines fail all the
time. Fields of a template: ${listFields(FORMATS.status)}.`,
  )
  .action(async (options) => (await import('./status.ts')).statusCommand(options))

const stop = new Command('stop')
  .description('end a container of intercede run, as its terminal could')
  .argument('<container...>', 'its id as ps lists it, or the number of the process of run')
  .option('--kill', 'at once, instead of by SIGTERM and, after its --stop-timeout, by SIGKILL')
  .addHelpText(
    'after',
    `
Only root may. All others are ended by what has started them: podman stop, kubectl delete.`,
  )
  .action(async (words, options) => (await import('./stop.ts')).stopCommand(words, options))

const completion = new Command('completion')
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
  .action(async (shell, { list, begun = '', ...whom }) => {
    if (list === 'profiles') return (await import('./flags.ts')).listProfiles({ begun, ...whom })
    if (list !== undefined) return (await import('./list.ts')).listCommand(list, { begun, ...whom })
    printCompletion(shell)
  })

/** The subcommands, in the order of the help. */
export const commands: readonly Command[] = [
  run,
  serve,
  profile,
  flags,
  doctor,
  ps,
  inspect,
  events,
  top,
  explain,
  metrics,
  api,
  set,
  reload,
  status,
  stop,
  completion,
]
