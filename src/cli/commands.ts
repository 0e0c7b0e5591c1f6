import { Argument, Command, Option } from 'commander'
import { instructed, namesWith, ociRuntimes, targets, unresolved } from '../runtimes/known/index.ts'
import { STOP_SECONDS } from '../runtimes/runtime.ts'
import { FILES, LISTS, printCompletion } from './completion.ts'
import { EVENTS_TAIL, FORMATS, type Format, TEST_FORMATS, TOP_SORTS } from './formats.ts'
import { ADVISE_HELP, FLAGS_HELP, PROFILE_HELP, RUN_HELP, SERVE_HELP, TEST_HELP } from './help-texts.ts'
import * as value from './option-values.ts'
import {
  CONTROL_OPTION,
  FEED_OPTION,
  formatOption,
  HISTORY_OPTION,
  ONLY_FEED_OPTION,
  policyOptions,
} from './option-values.ts'
import { configFile, LXC_SOCKET, SOCKET } from './paths.ts'

/*
 * The whole command line, with its help; the long texts are in help-texts.ts. The file with a command's name does the
 * work. It is loaded only when the command runs, because loading is most of the start-up time. scripts/bundle.js makes
 * a bundle of each command, or of several that share code.
 */

/** The subcommands, in the order of the help. */
export const commands: Command[] = []

function command(name: string): Command {
  const made = new Command(name)
  commands.push(made)
  return made
}

/** A paragraph below the options. */
const after = (text: string) => ['after', `\n${text}`] as const

/** What means one container. */
const WHICH = 'the id, the name, or the beginning of the id'

const runtimeNames = ociRuntimes.map(({ name }) => name)

/** What --since takes. */
const SINCE = 'start at this time (2026-01-31T10:00, 09:27, today, yesterday), or this long ago: 10m, 1h30m'

const run = command('run')
  .description("run a command in its own container, by default on a temporary overlay of the host's file systems")
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
    'show a directory or file of the host; with idmap, owners have the same numbers in the container',
    value.collect,
  )
  .option('--device <path[:path]>', 'allow a device of the host', value.collect)
  .option('--memory <size>', 'the memory limit, such as 512m', value.parseSize)
  .addOption(new Option('--net <mode>', 'the network').choices(['none', 'host']).default('none'))
  .addOption(
    new Option('--runtime <name>', `the OCI runtime (default: ${runtimeNames.join(', otherwise ')})`).choices(
      runtimeNames,
    ),
  )
  .option('--name <name>', 'the host name, and the name in ps, events, top and explain while it runs', value.parseName)
  .option('--env <key=value>', 'an environment variable; KEY alone passes the current value on', value.parseEnv)
  .option('--workdir <dir>', 'the working directory of the command', value.parseWorkdir)
  .option('--user <uid[:gid]>', 'the user and group that the command starts as', value.parseUser)
  .option('--no-init', 'make the command the first process (PID 1), which only gets signals that it handles')
  .option(
    '--systemd',
    'the command is systemd: with --no-init, a writable control group, own /run and /tmp; SIGTERM halts it',
  )
  .option(
    '--stop-timeout <seconds>',
    `time from SIGINT or SIGTERM until the container is killed (default: ${STOP_SECONDS})`,
    value.parseSeconds,
  )
  .option('--explain', 'print at once, on standard error, why a call was refused')
  .option('--quiet', 'do not print at the end what was refused')
  // `advise` reads there what the run used.
  .addOption(new Option('--report <fd>').argParser(Number).hideHelp())
  .addHelpText('after', RUN_HELP)
  .action(async (words, options) => (await import('./run.ts')).runCommand(words, options))

/** Options of `run` that do not concern a container whose files are thrown away, or what `advise` says itself. */
const NOT_ADVISED = ['--config', '--rootfs', '--explain', '--quiet', '--report']

const advise = command('advise')
  .description('find out which keys a command needs: run it twice, and print what it used and what was refused')
  .argument('[command...]', 'the command with its arguments')
  .passThroughOptions()
  .option(
    '--container <container>',
    'instead of a command: what this container has used until now; may be repeated',
    value.collect,
  )
  .option('-c, --config <key=value>', 'a key that may be used too, beside those that are harmless', value.collect)
  .option('--write <file>', "write the keys as a profile of the daemon's configuration, to a new file", value.parsePath)
  .option('--profile <name>', 'the name of that profile (default: that of the command or container)')
  .addOption(formatOption())
  .option(...FEED_OPTION)
  .option(...HISTORY_OPTION)

/** Options for both runs, as they were given. */
const passedOn: string[] = []
for (const option of run.options.filter(({ long }) => !NOT_ADVISED.includes(long!))) {
  const copy = new Option(option.flags, option.description)
  advise.addOption(option.argChoices ? copy.choices(option.argChoices) : copy)
  advise.on(`option:${option.name()}`, (given?: string | null) =>
    passedOn.push(option.long!, ...(typeof given === 'string' ? [given] : [])),
  )
}
advise
  .addHelpText(...after(ADVISE_HELP))
  .action(async (words, options) => (await import('./advise.ts')).adviseCommand(words, passedOn, options))

command('serve')
  .description('run the daemon that serves the containers of runtimes')
  .option(
    '--config <file>',
    `the configuration, a YAML file (default: ${configFile(false)} if it exists, with --user intercede/config.yaml in XDG_CONFIG_HOME)`,
  )
  .option('--user', "serve a user's containers, in the user's own user namespace: sysinfo and mount.fuse")
  .option(
    '--socket <path>',
    `the socket for runtimes: listenerPath of the profile (default: ${SOCKET}, with --user intercede/oci.sock in XDG_RUNTIME_DIR)`,
    value.parseSocketPath,
  )
  .option(
    '--lxc-socket <path>',
    'the socket for LXC: lxc.seccomp.notify.proxy (default: lxc.sock beside --socket; with --user none)',
    value.parseSocketPath,
  )
  .option(
    '--feed-socket <path>',
    'the socket for ps, inspect, events and other readers, open to the group intercede (default: feed.sock beside --socket)',
    value.parseSocketPath,
  )
  .option(
    '--control-socket <path>',
    'the socket for set and reload, only for root (default: control.sock beside --socket; with --user none)',
    value.parseSocketPath,
  )
  .option(
    '--check-config',
    'only print what the configuration means: every effective key of each profile; exits with 1 if it is wrong, or lacks the profile of a running container',
  )
  // The running daemon passes this to the program that replaces it, see keeper/reexec.ts.
  .addOption(new Option('--takes-over <format>').hideHelp())
  .addHelpText('after', SERVE_HELP)
  .action(async (options) => (await import('./serve.ts')).serveCommand(options))

const profile = command('profile').description(
  'make a seccomp profile for a container runtime: what to trap, and the policy',
)
for (const option of policyOptions()) profile.addOption(option)

profile
  .addOption(
    new Option('--format <format>', 'OCI linux.seccomp, an LXC policy, or an object of the security-profiles-operator')
      .choices(['oci', 'lxc', 'spo'])
      .default('oci'),
  )
  .addOption(
    new Option('--runtime <runtime>', 'the runtime that reads the file, with --format oci and spo')
      .choices(targets.map(({ name }) => name))
      .default(ociRuntimes[0]!.name),
  )
  .option(
    '--base <file>',
    'keep the rules of this profile, or of containerd or cri-o, for all calls that are not trapped (default for spo: containerd)',
  )
  .option(
    '--cap-add <cap>',
    `with --base for ${unresolved.join(' and ')}: a capability beyond the default ones`,
    value.parseCap,
  )
  .option(
    '--listener <path>',
    `the socket of "intercede serve" (default: ${SOCKET}, for lxc ${LXC_SOCKET}, for spo in the operator's directory)`,
    value.parseSocketPath,
  )
  .option('--user', 'use the socket of "intercede serve --user", in XDG_RUNTIME_DIR')
  .option('--name <name>', 'the name of the object, with --format spo (default: intercede)', value.parseObjectName)
  .option('--output <file>', 'write to this file instead of to standard output', value.parsePath)
  .option(
    '--check <file>',
    'only check this profile for --runtime (default: the first that accepts it) and the configuration of --daemon-config; print what is wrong or unwise',
  )
  .addHelpText('after', PROFILE_HELP)
  .action(async (options, self) => (await import('./profile.ts')).profileCommand(options, self))

/** The default of --first-id: useradd gives this range to users late. */
const FIRST_ID = 300_000

const flags = command('flags')
  .description('print what to tell a runtime so that a container has these keys')
  .addArgument(new Argument('<runtime>').choices(instructed.map(({ name }) => name)).argParser(value.parseInstructed))
for (const option of policyOptions()) flags.addOption(option)

/** Options that were given: commander itself keeps only the last value, or a default. */
const givenFlags = new Set<string>()
for (const name of ['base', 'no-base', 'first-id']) flags.on(`option:${name}`, () => givenFlags.add(name))

flags
  .option('-a, --annotation <KEY=VALUE>', 'an annotation of the container; may be repeated', value.collect)
  .option('--write [dir]', 'write the profile, instead of printing how', value.parsePath)
  .option(
    '--name <name>',
    'the name of the profile file (default: depends on the keys and the base)',
    value.parseFileName,
  )
  .option(
    '--base <file>',
    'the filter to keep, or containerd or cri-o (default: that of podman or LXC, for Pods containerd)',
  )
  .option('--no-base', 'keep no filter')
  .option(
    '--listener <path>',
    'the socket of "intercede serve" (default: as in "intercede profile")',
    value.parseSocketPath,
  )
  .option('--user', 'for rootless podman, with the socket of "intercede serve --user"')
  .addOption(
    new Option('--first-id <id>', `the first id of the host, for ${namesWith('takesFirstId').join(' and ')}`)
      .argParser(value.parseFirstId)
      .default(FIRST_ID),
  )
  .addHelpText('after', FLAGS_HELP)
  .action(async (name, options) => (await import('./flags.ts')).flagsCommand(name, options, givenFlags))

command('doctor')
  .description('check what this machine supports, and print how to fix the rest')
  .addOption(formatOption())
  .option(
    '--bundle <file>',
    'collect material for a bug report in a new tar archive: the findings, versions, mounts, the configuration, the units, the containers and last calls, and the log',
  )
  .option(...FEED_OPTION)
  .action(async (options) => (await import('./doctor.ts')).doctorCommand(options))

command('ps')
  .description('list the served containers: the outcomes of their calls, and what was refused last')
  .option('--wide', 'also print ids, runtimes, images, commands of run, keys, and the whole last refused call')
  .option('-a, --all', 'also list containers that ended within a day, and refused hand-overs with the reason')
  .option('--format <format>', 'table, json, or a template such as "{name} {calls}"')
  .option(...ONLY_FEED_OPTION)
  .option(...HISTORY_OPTION)
  .addHelpText(
    ...after(`Four words describe every outcome. done: Intercede did the call for the caller. left: the kernel decided, with the caller's
own rights. error: the answer was an errno. gone: the caller went away. Half of the calls took at most P50.`),
  )
  .action(async (options) => (await import('./ps.ts')).psCommand(options))

command('inspect')
  .description('print everything about containers: keys and their origin, ids, what was refused and why')
  .argument('<container...>', WHICH)
  .option('--format <format>', 'table, json, or a template such as "{id} {cgroup}"')
  .option(...FEED_OPTION)
  .option(...HISTORY_OPTION)
  .action(async (words, options) => (await import('./inspect.ts')).inspectCommand(words, options))

command('events')
  .description('print intercepted calls with outcome and reason, containers that start or end, and engines that end')
  .argument('[container]', WHICH)
  .option('--since <time>', SINCE, value.parseSince)
  .option('--after <cursor>', 'continue after the event with this cursor')
  .option(
    '--tail <number>',
    `how many past events to print first (default: ${EVENTS_TAIL}, with --no-follow all)`,
    value.parseTail,
  )
  .option('-f, --follow', 'wait for further events', true)
  .option('--no-follow', 'exit after the past events')
  .option(
    '--filter <filter>',
    'such as verdict=left, syscall!=mount, reason~device; if repeated, all must match',
    value.collect,
  )
  .option('--format <format>', 'table, json (one object a line), strace, or a template such as "{time} {call}"')
  .option(...FEED_OPTION)
  .option(...HISTORY_OPTION)
  .addHelpText(
    ...after(`The daemon keeps only the last calls. With --since, history shows what was refused before them: a line of type refusals for
each kind, with its last call. The log (journalctl -u intercede) has one line a minute for each container, call and
reason, and counts the others. A line of type lost counts events that came faster than they could be read. When the daemon ends, the command says so and waits for the next one.
The arguments of a left call are as Intercede read them: the caller may have changed them since.`),
  )
  .action(async (word, options) => (await import('./events.ts')).eventsCommand(word, options))

const TOP_INTERVAL = 1

command('top')
  .description('show the current rate of calls by container and call, their outcomes and durations')
  .option('--once', 'measure one interval and exit')
  .option('--interval <seconds>', `the length of an interval (default: ${TOP_INTERVAL})`, value.parseInterval)
  .addOption(new Option('--sort <field>', 'the field to sort by').choices(TOP_SORTS).default('rate'))
  .option('--format <format>', 'table, json (one array an interval), or a template such as "{container} {rate}"')
  .option(...ONLY_FEED_OPTION)
  .addHelpText(
    ...after(`Numbers are calls per second. 50 or 99 of 100 calls of the interval took at most P50 or P99. IN FLIGHT counts the calls of
the whole container that are being served. Those that take more than ten seconds are stuck. A container that has only
calls in flight is listed too.`),
  )
  .action(async (options) => (await import('./top.ts')).topCommand({ interval: TOP_INTERVAL, ...options }))

command('explain')
  .description('explain each kind of refusal: how often, which call, why, and what to change')
  .argument('[container or reason]', 'the id or name of a container, or the code of a reason such as deviceNotAllowed')
  .option('--format <format>', 'table, json, or a template such as "{count} {call} {remedy}"')
  .option('--since <time>', `${SINCE} (default: for containers that have ended, 1d)`, value.parseSince)
  .option(...FEED_OPTION)
  .option(...HISTORY_OPTION)
  .option(
    '--if <call>',
    "say what would become of this call of a container's root, such as 'mknod(\"null\", S_IFCHR|0666, 1:3)'",
  )
  .addOption(value.configOption('with --if: '))
  .addOption(value.profileOption('with --if: '))
  .addOption(value.daemonConfigOption())
  .addHelpText(
    ...after(`Without an argument it explains the refusals of containers that run, then of those that ended within a day, or since --since.
With a name or an id it also finds containers that were removed, and those from before a restart, as long as history has them.

With --if it answers one question, whatever runs now: it exits with 0 and says the outcome, the reason and what to do. The policy
is the default of the daemon's configuration, with --profile and -c over it, and under its ceiling.`),
  )
  .action(async (word, options) => {
    if (options.if === undefined) (await import('./explain.ts')).explainCommand(word, options)
    else (await import('./test.ts')).explainIfCommand(word, options)
  })

command('test')
  .description('test a policy: what becomes of calls of a described caller, without a kernel')
  .argument('[file...]', 'YAML files with the policy, the caller and the cases')
  .addOption(value.profileOption('instead of the policy of the files: '))
  .addOption(value.daemonConfigOption())
  .addOption(new Option('--format <format>', 'output format').choices(TEST_FORMATS).default('table'))
  .option('--from-records <container>', 'print a file with cases of what this container did, as far as records have it')
  .option(...FEED_OPTION)
  .option(...HISTORY_OPTION)
  .addHelpText('after', TEST_HELP)
  .action(async (files, options) => {
    if (options.fromRecords === undefined) (await import('./test.ts')).testCommand(files, options)
    else await (await import('./record-cases.ts')).fromRecordsCommand(files, options)
  })

command('metrics')
  .description('print counters as text for Prometheus, for the textfile collector of its node exporter')
  .option(...FEED_OPTION)
  .addHelpText(
    ...after(`intercede api serves the same text over HTTP. No series names a container, unless the daemon's configuration has
"metrics: { container: true }".`),
  )
  .action(async (options) => (await import('./status.ts')).metricsCommand(options))

command('api')
  .description('serve metrics, containers, events and refusals over HTTP to programs on this machine')
  .option('--socket <path>', 'the socket to serve on (default: the sockets that systemd passes)', value.parseSocketPath)
  .option(
    '--listen <address:port>',
    'serve metrics, and nothing else, to all who reach this address',
    value.parseListen,
  )
  .option(...FEED_OPTION)
  .addHelpText(
    ...after(`intercede-api.socket starts it on the first request, and it exits after a minute without requests. It only reads.
/openapi.json describes all answers. Each socket serves 64 connections at once. The Host must be localhost, or the
address of --listen, and a request has no body.`),
  )
  .action(async (options) => (await import('./api.ts')).apiCommand(options))

command('web')
  .description('serve a page with containers, their calls and refusals to one browser on this machine')
  .option(
    '--listen <address:port>',
    'the loopback address to serve on, such as 127.0.0.1:9471 (default: a free port)',
    value.parseOwnListen,
  )
  .option('--open', 'open the page in the browser, with xdg-open')
  .option(...FEED_OPTION)
  .addHelpText(
    ...after(`It prints the address of the page, which admits the first browser that opens it. The page shows what the commands show to
the same user, and changes nothing. From another machine, use a tunnel: "ssh -L 9471:127.0.0.1:9471 HOST", or in
Kubernetes "kubectl port-forward". Ctrl-C ends the page.`),
  )
  .action(async (options) => (await import('./web.ts')).webCommand(options))

command('set')
  .description('change the keys of a running container, at once and until it ends')
  .argument('<container>', WHICH)
  .argument('[key=value...]', 'a key of security.syscalls.intercept.*, or its short form such as "mknod"')
  .option(
    '--unset <key>',
    'return a key to the value of the profile and the configuration; may be repeated',
    value.collect,
  )
  .addOption(formatOption())
  .option(...CONTROL_OPTION)
  .option(...FEED_OPTION)
  .addHelpText(
    ...after(`Only root of the host may do this. The value overrides the container's metadata and annotations, and survives reloads and
engine restarts. It ends with the container: when restarted, the container has the keys of its profile. A call in flight
ends under the policy that it began with. The command refuses keys above their ceiling in the configuration, keys whose
calls the container's filter does not trap, and mount.fuse if it is not known how the container's runtime starts a program.`),
  )
  .action(async (word, keys, options) => (await import('./set.ts')).setCommand(word, keys, options))

command('reload')
  .description('make the daemon apply its configuration again and, after an upgrade, become the new program')
  .option('--dry-run', 'change nothing; print what would change for which container')
  .option('--force', 'reload even if running containers lose all their keys because their profile is gone')
  .addOption(formatOption())
  .option(...CONTROL_OPTION)
  .option(...FEED_OPTION)
  .addHelpText(
    ...after(`Only root of the host may do this. It does the same as SIGHUP and systemctl reload, and prints what changed for which
container, or why nothing changed. No call is lost. If the configuration lacks the profile of a running container, nothing
changes and the container is named: correct the configuration, or use --force.`),
  )
  .action(async (options) => (await import('./set.ts')).reloadCommand(options))

command('status')
  .description('show whether the daemon serves, since when, its version, and its engine')
  .option('--format <format>', 'table, json, or a template such as "{pid} {version}"')
  .option(...FEED_OPTION)
  .addHelpText(
    ...after(`The exit status is 1 if no engine serves now. Calls then wait for the next engine, or are left to the kernel if engines
keep failing.`),
  )
  .action(async (options) => (await import('./status.ts')).statusCommand(options))

command('stop')
  .description('end a container of intercede run')
  .argument('<container...>', 'the id or name that ps lists, or the PID of intercede run')
  .option('--kill', 'send SIGKILL at once, instead of SIGTERM and, after --stop-timeout, SIGKILL')
  .option(...CONTROL_OPTION)
  .addHelpText(
    ...after(
      `Only root may do this. The daemon's history says who did, or without a daemon the log of the machine (/dev/log). End other containers with the tool that started them: podman stop, kubectl delete.`,
    ),
  )
  .action(async (words, options) => (await import('./stop.ts')).stopCommand(words, options))

command('completion')
  .description('print a completion script for a shell')
  .addArgument(new Argument('[shell]', 'the shell').choices(Object.keys(FILES)))
  // The completion scripts use these.
  .addOption(new Option('--list <what>').choices(LISTS).hideHelp())
  .addOption(new Option('--begun <text>').hideHelp())
  .addOption(new Option(...FEED_OPTION).hideHelp())
  .addOption(new Option('--daemon-config <file>').hideHelp())
  .addOption(new Option('--user').hideHelp())
  .addHelpText(
    ...after(`The Debian package installs the scripts. Otherwise, load one into your shell:

  source <(intercede completion bash)
  source <(intercede completion zsh)        after compinit
  intercede completion fish | source`),
  )
  .action(async (shell, { list, begun = '', ...whom }) => {
    if (list === 'profiles') return (await import('./flags.ts')).listProfiles({ begun, ...whom })
    if (list !== undefined) return (await import('./list.ts')).listCommand(list, { begun, ...whom })
    printCompletion(shell)
  })

for (const each of commands) {
  const format = each.options.find(({ long }) => long === '--format')
  if (format && (format.argChoices ?? ['json']).includes('json')) {
    each.option('--json', 'the same as --format json')
    each.on('option:json', () => each.setOptionValueWithSource('format', 'json', 'cli'))
  }
  const fields = (FORMATS as Readonly<Record<string, Format>>)[each.name()]?.fields
  if (fields) each.addHelpText('after', `\nFields of a template: ${fields.map((name) => `{${name}}`).join(' ')}.`)
}
