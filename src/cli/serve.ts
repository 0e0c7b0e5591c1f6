import { Command, Option } from 'commander'
import { sampleConfig } from '../policy/config-sample.ts'
import { configFile } from './config-file.ts'
import { SOCKET, socketPath } from './sockets.ts'

export const command = new Command('serve')
  .description('the daemon: serves the containers that runtimes hand over')
  .option(
    '--config <file>',
    `YAML with default, profiles, annotations, ceiling, log, limits and reload (default: ${configFile(false)} if it is there, with --user intercede/config.yaml in XDG_CONFIG_HOME)`,
  )
  .option('--user', 'serve the containers of a user, in its own user namespace: sysinfo and mount.fuse')
  .option(
    '--socket <path>',
    `where runtimes connect: listenerPath of the profile (default: ${SOCKET}, with --user intercede/oci.sock in XDG_RUNTIME_DIR)`,
    socketPath,
  )
  .option(
    '--lxc-socket <path>',
    'where LXC connects: lxc.seccomp.notify.proxy (default: lxc.sock beside the other; with --user none)',
    socketPath,
  )
  .option(
    '--feed-socket <path>',
    'where intercede ps, inspect and events connect, and members of the group intercede may (default: feed.sock beside the other)',
    socketPath,
  )
  .option(
    '--control-socket <path>',
    'where intercede set and reload connect, of root alone (default: control.sock beside the other; with --user none)',
    socketPath,
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
  .action(async (options) => (await import('./serve-command.ts')).serveCommand(options))
