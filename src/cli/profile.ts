import { mkdirSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { dirname } from 'node:path'
import { Command, InvalidArgumentError, Option } from 'commander'
import type { Rule } from '../calls/rule.ts'
import { idleHere } from '../daemon/idle.ts'
import { type Circumstances, resolveGuards } from '../filter/base.ts'
import { compileOci } from '../filter/compile.ts'
import { lintProfile } from '../filter/lint.ts'
import { formatProfile, type OciSeccomp } from '../filter/oci.ts'
import { readProfile } from '../filter/read.ts'
import { flagsFor, machines, resolvesGuards, type Target, targets } from '../filter/target.ts'
import { deviceNames } from '../kernel/device-names.ts'
import { readText } from '../kernel/text-file.ts'
import { fullName, keyNames, keys } from '../policy/keys.ts'
import { type Entry, formatLines, parseAssignment } from '../policy/lines.ts'
import { effective, settle, toPolicy } from '../policy/settings.ts'
import { mustServeUser } from '../policy/user.ts'
import { rulesFor } from '../syscalls/index.ts'
import { LXC_SOCKET, profileForLxc } from './profile-lxc.ts'
import { SOCKET, userSocket } from './sockets.ts'

interface Options {
  readonly config?: readonly string[]
  readonly format: 'oci' | 'lxc'
  readonly runtime: Target
  readonly base?: string
  readonly capAdd?: readonly string[]
  readonly listener?: string
  readonly user?: true
  readonly output?: string
  readonly check?: string
}

/** What podman gives a container without --cap-add; a base profile may depend on capabilities. */
const usualCaps =
  'CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT'.split(' ')

const collect = (value: string, previous: readonly string[] = []): readonly string[] => [...previous, value]

/** sun_path holds 108 bytes with the final NUL; a runtime reports a longer path only when a container starts. */
function socketPath(path: string): string {
  if (path.startsWith('/') && Buffer.byteLength(path) < 108) return path
  throw new InvalidArgumentError('It must be an absolute path of at most 107 bytes.')
}

function machine(): (typeof machines)[string] {
  const known = machines[process.arch]
  if (!known) throw new Error(`Cannot make a profile: the architecture ${process.arch} is not supported`)
  return known
}

function circumstances(caps: readonly string[]): Circumstances {
  const names = [...usualCaps, ...caps].map((cap) => `CAP_${cap.toUpperCase().replace(/^CAP_/, '')}`)
  const [major = 0, minor = 0] = release().split('.').map(Number)
  return { caps: new Set(names), arch: machine().goArch, kernel: [major, minor] }
}

function profileIn(file: string, refuse: (why: string) => Error): OciSeccomp {
  try {
    return readProfile(readText(file, { pipes: true }))
  } catch (error) {
    throw refuse((error as Error).message)
  }
}

/** Says all that is wrong or unwise about a profile, and fails if anything is wrong. */
function check(file: string, runtime: Target): void {
  const refuse = (why: string) => new Error(`Cannot use the profile ${JSON.stringify(file)}: ${why}`)
  const findings = lintProfile(profileIn(file, refuse), runtime)
  for (const { is, says } of findings) process.stdout.write(`${is}: ${says}\n`)
  const count = findings.filter(({ is }) => is === 'wrong').length
  if (count > 0) throw refuse(`${count} of its rules or settings ${count === 1 ? 'is' : 'are'} wrong`)
}

const listenerOf = ({ listener, user }: Pick<Options, 'listener' | 'user'>): string =>
  listener ?? (user ? userSocket() : SOCKET)

function readBase(file: string, { runtime, capAdd = [], ...options }: Options): OciSeccomp {
  const refuse = (why: string) => new Error(`Cannot use the base profile ${JSON.stringify(file)}: ${why}`)
  const base = profileIn(file, refuse)
  const finding = lintProfile(base, runtime, listenerOf(options)).find(({ is }) => is === 'wrong')
  if (finding) throw refuse(finding.says)
  return resolvesGuards(runtime) ? base : resolveGuards(base, machine().architectures[0], circumstances(capAdd))
}

/** The policy as lines, with every value in its one spelling. */
function policyLines(entries: readonly Entry[]): string {
  const given = effective(settle(entries)).filter(({ origin }) => origin === 'given')
  return formatLines({ entries: given.map(({ key, text }) => [key, text]) })
}

function ociProfile(options: Options, rules: readonly Rule[], metadata: string): string {
  const { base, runtime } = options
  const profile = compileOci({
    rules,
    architectures: machine().architectures,
    ...(base === undefined ? {} : { base: readBase(base, options) }),
    flags: flagsFor(runtime),
    listenerPath: listenerOf(options),
    metadata,
  })
  return formatProfile(profile)
}

function write(options: Options): void {
  if (options.check !== undefined) {
    check(options.check, options.runtime)
    return
  }
  const entries: readonly Entry[] = (options.config ?? []).map((text) => parseAssignment(text))
  const settings = settle(entries)
  const policy = toPolicy(settings, deviceNames)
  if (options.user) mustServeUser(policy)
  const rules = rulesFor(policy)
  if (rules.length === 0)
    throw new Error(`Cannot make a profile: ${idleHere(settings).join('; ') || 'no key is on; try -c mknod'}`)
  const lines = policyLines(entries)
  if (options.format === 'oci') {
    put(ociProfile(options, rules, lines), options.output)
    return
  }
  const written = profileForLxc({ ...options, rules, keys: lines })
  put(written.policy, options.output)
  if (options.output !== undefined) put(written.configuration)
}

function put(text: string, file?: string): void {
  if (file === undefined) {
    process.stdout.write(text)
    return
  }
  try {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  } catch (error) {
    throw new Error(`Cannot write the profile: ${(error as Error).message}`)
  }
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
    new Option('--runtime <runtime>', 'with the format oci: who reads the file').choices(targets).default('crun'),
  )
  .option('--base <file>', 'keep the meaning of this profile for all that is not trapped')
  .option('--cap-add <cap>', 'with --base for crun and runc: a capability beyond the usual ones', collect)
  .option(
    '--listener <path>',
    `the socket of "intercede serve" (default: ${SOCKET}, for lxc ${LXC_SOCKET})`,
    socketPath,
  )
  .option('--user', 'the socket is that of "intercede serve --user", in XDG_RUNTIME_DIR')
  .option('--output <file>', 'write there instead of to stdout')
  .option('--check <file>', 'make nothing, but say what is wrong or unwise about this profile')
  .addHelpText('after', examples)
  .action(write)
