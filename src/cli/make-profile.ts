import { mkdirSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { dirname } from 'node:path'
import { InvalidArgumentError } from 'commander'
import type { Rule } from '../calls/rule.ts'
import { type GuardFacts, resolveGuards } from '../filter/base.ts'
import { compileOci } from '../filter/compile.ts'
import { lintProfile } from '../filter/lint.ts'
import { formatProfile, type OciSeccomp } from '../filter/oci.ts'
import { readProfile } from '../filter/read.ts'
import { machines, type Target } from '../filter/target.ts'
import { ineffectiveHere } from '../keeper/ineffective-keys.ts'
import { deviceNames } from '../kernel/device-names.ts'
import { formatLines, type KeyValueLine, parseAssignment } from '../policy/key-value-lines.ts'
import { mustServeUser } from '../policy/rootless.ts'
import { effective, settle, toPolicy } from '../policy/settings.ts'
import { readText } from '../runtimes/text-file.ts'
import { rulesFor } from '../syscalls/index.ts'
import { profileForLxc } from './profile-lxc.ts'
import { SOCKET, userSocket } from './sockets.ts'

/** The options of `intercede profile`, as data. */
export interface ProfileOptions {
  /** The keys of the policy, as on a command line. */
  readonly config?: readonly string[] | undefined
  /** The runtime that reads the profile; undefined for a policy of LXC. */
  readonly target: Target | undefined
  /** The file of a profile whose meaning is kept for all that is not trapped. */
  readonly base?: string | undefined
  readonly capAdd?: readonly string[] | undefined
  readonly listener?: string | undefined
  readonly user?: boolean | undefined
  /** Path of the file that will hold the profile. */
  readonly output?: string | undefined
}

export interface Profile {
  readonly text: string
  /** The configuration lines of an LXC container that name the profile. */
  readonly configuration?: string
}

/** The capabilities of podman's containers without --cap-add; rules of a base profile may depend on capabilities. */
const usualCaps =
  'CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT'.split(' ')

/** Checks the path of a socket: sun_path holds 108 bytes with the NUL; runtimes notice that only at container start. */
export function socketPath(path: string): string {
  if (path.startsWith('/') && Buffer.byteLength(path) < 108) return path
  throw new InvalidArgumentError('It must be an absolute path of at most 107 bytes.')
}

function machine(): (typeof machines)[string] {
  const known = machines[process.arch]
  if (!known) throw new Error(`Cannot make a profile: the architecture ${process.arch} is not supported`)
  return known
}

function circumstances(caps: readonly string[]): GuardFacts {
  const names = [...usualCaps, ...caps].map((cap) => `CAP_${cap.toUpperCase().replace(/^CAP_/, '')}`)
  const [major = 0, minor = 0] = release().split('.').map(Number)
  return { caps: new Set(names), arch: machine().goArch, kernel: [major, minor] }
}

/** Reads a profile. @throws {Error} the error that `refuse` makes of the reason why the file is of no use */
export function profileIn(file: string, refuse: (why: string) => Error): OciSeccomp {
  try {
    return readProfile(readText(file, { pipes: true }))
  } catch (error) {
    throw refuse((error as Error).message)
  }
}

function readBase(file: string, target: Target, listener: string, capAdd: readonly string[]): OciSeccomp {
  const refuse = (why: string) => new Error(`Cannot use the base profile ${JSON.stringify(file)}: ${why}`)
  const base = profileIn(file, refuse)
  const finding = lintProfile(base, target, listener).find(({ is }) => is === 'wrong')
  if (finding) throw refuse(finding.says)
  return target.resolvesGuards ? base : resolveGuards(base, machine().architectures[0], circumstances(capAdd))
}

/** Formats the given keys of a policy as lines, each value in its canonical spelling. */
function policyLines(entries: readonly KeyValueLine[]): string {
  const given = effective(settle(entries)).filter(({ origin }) => origin === 'given')
  return formatLines({ entries: given.map(({ key, text }) => [key, text]) })
}

function ociProfile(options: ProfileOptions, target: Target, rules: readonly Rule[], metadata: string): string {
  const { base, listener, user, capAdd = [] } = options
  const listenerPath = listener ?? (user ? userSocket() : SOCKET)
  const profile = compileOci({
    rules,
    architectures: machine().architectures,
    ...(base === undefined ? {} : { base: readBase(base, target, listenerPath, capAdd) }),
    flags: target.flags,
    listenerPath,
    metadata,
  })
  return formatProfile(profile)
}

/**
 * Makes a profile, which is the filter and the policy of a container.
 *
 * @throws {Error} if no key is on, or the base profile cannot be used
 */
export function makeProfile(options: ProfileOptions): Profile {
  const { config = [], target, base, listener, output } = options
  const entries: readonly KeyValueLine[] = config.map((text) => parseAssignment(text))
  const settings = settle(entries)
  const policy = toPolicy(settings, deviceNames)
  if (options.user) mustServeUser(policy)
  const rules = rulesFor(policy)
  if (rules.length === 0)
    throw new Error(`Cannot make a profile: ${ineffectiveHere(settings).join('; ') || 'no key is on; try -c mknod'}`)
  const keys = policyLines(entries)
  return target
    ? { text: ociProfile(options, target, rules, keys) }
    : profileForLxc({ rules, keys, base, listener, output })
}

/** Writes a profile, and makes the directories above it. */
export function writeProfile(text: string, file: string): void {
  try {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  } catch (error) {
    throw new Error(`Cannot write the profile: ${(error as Error).message}`)
  }
}
