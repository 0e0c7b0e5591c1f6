import { Command, Option } from 'commander'
import { fullName } from '../policy/key.ts'
import { keyNames } from '../policy/key-names.ts'
import { keys } from '../policy/keys.ts'
import { ociRuntimes } from '../runtimes/known/index.ts'
import { parseCap } from './cap-option.ts'
import { policyOptions } from './policy-options.ts'
import { targets, unresolved } from './profile-targets.ts'
import { parsePath } from './run-options.ts'
import { LXC_SOCKET, SOCKET, socketPath } from './sockets.ts'

const keyHelp = keyNames
  .map(
    (name) =>
      `  ${fullName(name)}\n      ${keys[name].help}\n      ${keys[name].allowed}; default ${keys[name].default || 'none'}`,
  )
  .join('\n')

const examples = `
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
${keyHelp}`

const made = new Command('profile').description(
  'Make a seccomp profile for a container runtime: what to trap, and the policy for it',
)
for (const option of policyOptions()) made.addOption(option)

export const command = made
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
    parseCap,
  )
  .option(
    '--listener <path>',
    `the socket of "intercede serve" (default: ${SOCKET}, for lxc ${LXC_SOCKET})`,
    socketPath,
  )
  .option('--user', 'the socket is that of "intercede serve --user", in XDG_RUNTIME_DIR')
  .option('--output <file>', 'write there instead of to stdout', parsePath)
  .option(
    '--check <file>',
    'make nothing, but say what is wrong or unwise about this profile for --runtime, with the configuration of --daemon-config',
  )
  .addHelpText('after', examples)
  .action(async (options, self) => (await import('./profile-command.ts')).profileCommand(options, self))
