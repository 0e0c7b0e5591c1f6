import { Command, Option } from 'commander'
import type { Cap } from '../abi/capability.ts'
import { lintProfile } from '../filter/lint.ts'
import type { Target } from '../filter/target.ts'
import { fullName } from '../policy/key.ts'
import { keyNames } from '../policy/key-names.ts'
import { keys } from '../policy/keys.ts'
import { ociRuntimes, runtimes } from '../runtimes/known/index.ts'
import { lintMetadata } from './lint-metadata.ts'
import { makeProfile, parseCap, profileIn, writeProfile } from './make-profile.ts'
import { print } from './print.ts'
import { LXC_SOCKET } from './profile-lxc.ts'
import { SOCKET, socketPath } from './sockets.ts'
import { asAnswer, mustBe } from './usage.ts'
import { type PolicyOptions, policyOptions, wantedPolicy } from './wanted-policy.ts'

interface Options extends PolicyOptions {
  readonly format: 'oci' | 'lxc'
  readonly runtime: string
  readonly base?: string
  readonly capAdd?: readonly Cap[]
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
  const profile = profileIn(file, refuse)
  const findings = [...lintProfile(profile, target), ...lintMetadata(profile)]
  if (findings.length > 0) print(findings.map(({ is, says }) => `${is}: ${says}\n`).join(''))
  const count = findings.filter(({ is }) => is === 'wrong').length
  if (count > 0) throw refuse(`${count} of its rules or settings ${count === 1 ? 'is' : 'are'} wrong; make it anew`)
}

/** The options that say something only beside others, or only without them. */
const combinations = ({ format, base, capAdd }: Options, isGiven: (option: string) => boolean, target: Target) =>
  [
    [format === 'lxc' && isGiven('runtime'), '--runtime', 'the format lxc is for LXC alone; leave one of them out'],
    [format === 'lxc' && isGiven('user'), '--user', 'LXC has no daemon of a user; leave it out'],
    [
      capAdd && (format === 'lxc' || target.resolvesGuards),
      '--cap-add',
      `it is for ${unresolved.join(' and ')}, others look at the capabilities of the container themselves; leave it out`,
    ],
    [capAdd && base === undefined, '--cap-add', 'it is about rules of a base profile; name one with --base'],
  ] as const

function mustCombine(options: Options, { isGiven, target }: Circumstances): void {
  for (const [isWrong, option, why] of combinations(options, isGiven, target))
    mustBe(!isWrong, `Cannot use ${option} here: ${why}`)
}

interface Circumstances {
  readonly isGiven: (option: string) => boolean
  readonly target: Target
}

function main(options: Options, self: Command): void {
  const target = targets.find(({ name }) => name === options.runtime)!
  const isGiven = (option: string): boolean => self.getOptionValueSource(option) === 'cli'
  const { check: checked, format, output } = options
  if (checked !== undefined) {
    const others = self.options.filter(
      (option) => !CHECKS.has(option.attributeName()) && isGiven(option.attributeName()),
    )
    mustBe(others.length === 0, `Cannot use ${others[0]?.long} with --check: it makes nothing; leave it out`)
    asAnswer(() => check(checked, target))
    return
  }
  mustCombine(options, { isGiven, target })
  const wanted = wantedPolicy(options)
  const { text, configuration = '' } = makeProfile(wanted, {
    ...options,
    target: format === 'oci' ? target : undefined,
  })
  if (output !== undefined) writeProfile(text, output)
  print(output === undefined ? text : configuration)
}

/** The options that --check takes. */
const CHECKS: ReadonlySet<string> = new Set(['check', 'runtime'])

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
  podman run --userns=auto --cap-add MKNOD --security-opt seccomp=mknod.json IMAGE

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
  .option('--output <file>', 'write there instead of to stdout')
  .option('--check <file>', 'make nothing, but say what is wrong or unwise about this profile')
  .addHelpText('after', examples)
  .action(main)
