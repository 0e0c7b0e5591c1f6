import { Command, Option } from 'commander'
import { lintProfile } from '../filter/lint.ts'
import type { Target } from '../filter/target.ts'
import { fullName } from '../policy/key.ts'
import { keyNames } from '../policy/key-names.ts'
import { keys } from '../policy/keys.ts'
import { ociRuntimes, runtimes } from '../runtimes/known/index.ts'
import { makeProfile, profileIn, socketPath, writeProfile } from './make-profile.ts'
import { LXC_SOCKET } from './profile-lxc.ts'
import { collect } from './run-options.ts'
import { SOCKET } from './sockets.ts'

interface Options {
  readonly config?: readonly string[]
  readonly format: 'oci' | 'lxc'
  readonly runtime: string
  readonly base?: string
  readonly capAdd?: readonly string[]
  readonly listener?: string
  readonly user?: true
  readonly output?: string
  readonly check?: string
}

const targets = runtimes.flatMap(({ target }) => target ?? [])
const unresolved = targets.filter(({ resolvesGuards }) => !resolvesGuards).map(({ name }) => name)

/** Prints what is wrong or unwise in a profile. @throws {Error} if anything is wrong */
function check(file: string, target: Target): void {
  const refuse = (why: string) => new Error(`Cannot use the profile ${JSON.stringify(file)}: ${why}`)
  const findings = lintProfile(profileIn(file, refuse), target)
  for (const { is, says } of findings) process.stdout.write(`${is}: ${says}\n`)
  const count = findings.filter(({ is }) => is === 'wrong').length
  if (count > 0) throw refuse(`${count} of its rules or settings ${count === 1 ? 'is' : 'are'} wrong`)
}

function main({ format, runtime, check: checked, ...options }: Options): void {
  const target = targets.find(({ name }) => name === runtime)!
  if (checked !== undefined) {
    check(checked, target)
    return
  }
  const { text, configuration } = makeProfile({ ...options, target: format === 'oci' ? target : undefined })
  if (options.output === undefined) {
    process.stdout.write(text)
    return
  }
  writeProfile(text, options.output)
  if (configuration !== undefined) process.stdout.write(configuration)
}

const keyHelp = keyNames
  .map(
    (name) =>
      `  ${fullName(name)}\n      ${keys[name].help}\n      ${keys[name].allowed}; default ${keys[name].default || 'none'}`,
  )
  .join('\n')

const examples = `
The file is filter and policy in one: the runtime installs the filter, and hands the
listener with the policy to "intercede serve".

Examples:
  # the character devices that are harmless, and /dev/net/tun
  intercede profile -c mknod -c mknod.devices=c:10:200 --output mknod.json
  podman run --userns=auto --cap-add MKNOD --security-opt seccomp=mknod.json IMAGE

  # the same calls on top of podman's own profile, as linux.seccomp of a bundle for runc
  intercede profile -c mknod -c sysinfo --runtime runc --base /usr/share/containers/seccomp.json

  # for LXC: writes the file, and prints the lines for the configuration of the container
  intercede profile --format lxc -c mknod --base /usr/share/lxc/config/common.seccomp \\
    --output /etc/lxc/mknod.seccomp | tee -a /var/lib/lxc/NAME/config

Keys (the part up to "intercept." may be left out; a boolean alone means true):
${keyHelp}`

export const command = new Command('profile')
  .description('Make a seccomp profile for a container runtime: what to trap, and the policy for it')
  .option('-c, --config <KEY[=VALUE]>', 'set a policy key, may be repeated', collect)
  .addOption(
    new Option('--format <format>', 'OCI linux.seccomp, or a policy of LXC').choices(['oci', 'lxc']).default('oci'),
  )
  .addOption(
    new Option('--runtime <runtime>', 'with the format oci: who reads the file')
      .choices(targets.map(({ name }) => name))
      .default(ociRuntimes[0]!.name),
  )
  .option('--base <file>', 'keep the meaning of this profile for all that is not trapped')
  .option('--cap-add <cap>', `with --base for ${unresolved.join(' and ')}: a capability beyond the usual ones`, collect)
  .option(
    '--listener <path>',
    `the socket of "intercede serve" (default: ${SOCKET}, for lxc ${LXC_SOCKET})`,
    socketPath,
  )
  .option('--user', 'the socket is that of "intercede serve --user", in XDG_RUNTIME_DIR')
  .option('--output <file>', 'write there instead of to stdout')
  .option('--check <file>', 'make nothing, but say what is wrong or unwise about this profile')
  .addHelpText('after', examples)
  .action(main)
