import { statSync } from 'node:fs'
import { release } from 'node:os'
import { dirname, resolve } from 'node:path'
import type { Cap } from '../abi/credentials.ts'
import { errno } from '../abi/errno.ts'
import type { Rule } from '../calls/syscall.ts'
import { targetHere } from '../doctor/probes.ts'
import { engineDefault, type GuardFacts, resolveGuards } from '../filter/base.ts'
import { compileOci } from '../filter/compile.ts'
import { lintProfile } from '../filter/lint.ts'
import { compileLxc, type LxcPolicy, parseLxcPolicy } from '../filter/lxc.ts'
import { formatProfile, NOTIFY, type OciSeccomp } from '../filter/oci.ts'
import { readProfile } from '../filter/read.ts'
import { machines, type Target } from '../filter/target.ts'
import { readText } from '../runtimes/text-file.ts'
import { LXC_SOCKET, SOCKET, userSocket } from './paths.ts'
import { checkUsage } from './usage.ts'
import type { WantedPolicy } from './wanted-policy.ts'
import { writeWhole } from './write-whole.ts'

/** The options of `intercede profile` beside those of the policy, as data. */
export interface ProfileOptions {
  /** The runtime that reads the profile; undefined for a policy of LXC. */
  readonly target: Target | undefined
  /** The file, or the engine, of a profile whose meaning is kept for all that is not trapped. */
  readonly base?: string | undefined
  readonly capAdd?: readonly Cap[] | undefined
  readonly listener?: string | undefined
  readonly user?: boolean | undefined
  /** Path of the file that will hold the profile. */
  readonly output?: string | undefined
  /** The name of an object of the security-profiles-operator; undefined for a plain profile. */
  readonly objectName?: string | undefined
}

interface Profile {
  readonly text: string
  /** The configuration lines of an LXC container that name the profile. */
  readonly configuration?: string
}

/** The capabilities of podman's containers without --cap-add; rules of a base profile may depend on capabilities. */
const usualCaps =
  'CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT'.split(' ')

function machine(): (typeof machines)[string] {
  const known = machines[process.arch]
  if (!known) throw new Error(`Cannot make a profile: the architecture ${process.arch} is not supported`)
  return known
}

function circumstances(caps: readonly string[]): GuardFacts {
  const names = caps.map((cap) => `CAP_${cap}`)
  const [major = 0, minor = 0] = release().split('.').map(Number)
  return { caps: new Set(names), arch: machine().goArch, kernel: [major, minor] }
}

/** Reads a profile. @throws {Error} the error that `refuse` makes of the reason why the file is of no use */
export function profileIn(file: string, refuse: (why: string) => Error): OciSeccomp {
  try {
    return readProfile(readText(file, { pipes: true }))
  } catch (error) {
    const { message } = error as Error
    throw refuse(
      message.includes('; ') ? message : `${message}; name a profile in JSON, as podman and Docker have them`,
    )
  }
}

const refusal = (base: string, why: string): Error =>
  new Error(`Cannot use the base profile ${JSON.stringify(base)}: ${why}`)

/** Makes a profile on top of a base, whose rules for a trapped call may be the reason why that fails. */
function onTopOf<T>(base: string | undefined, make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (base === undefined || !(error instanceof RangeError)) throw error
    throw refusal(base, `${error.message}; mend them, or name another one`)
  }
}

function readBase(file: string, target: Target, listener: string, capAdd: readonly Cap[]): OciSeccomp {
  const refuse = (why: string) => refusal(file, why)
  const { profile: base, caps } = engineDefault(file) ?? { profile: profileIn(file, refuse), caps: usualCaps }
  const finding = lintProfile(base, target, listener).find(({ is }) => is === 'wrong')
  if (finding)
    throw refuse(finding.says.includes('; ') ? finding.says : `${finding.says}; "profile --check" says more about it`)
  if (target.resolvesGuards) return base
  try {
    return resolveGuards(base, machine().architectures[0], circumstances([...caps, ...capAdd]))
  } catch (error) {
    throw refuse((error as Error).message)
  }
}

/** The listeners of the operator's profiles are in this directory, where the DaemonSet puts a link. */
const OPERATOR_SOCKET = /^\/var\/run\/security-profiles-operator\/[\w.-]+$/
export const OPERATOR_LISTENER = '/var/run/security-profiles-operator/intercede.sock'
const INT64_MAX = 2n ** 63n - 1n

/**
 * Makes an object of the security-profiles-operator 1.0. The API server drops the fields that its API lacks.
 *
 * @throws {Error} if the profile would mean something else there
 * @see security-profiles-operator api/seccompprofile/v1
 */
function operatorObject(profile: OciSeccomp, name: string): object {
  const refuse = (why: string) => new Error(`Cannot make an object of the operator: ${why}; use --base containerd`)
  const { defaultErrnoRet, defaultErrno: _, archMap: __, syscalls = [], ...rest } = profile
  if (defaultErrnoRet !== undefined && defaultErrnoRet !== errno('EPERM'))
    throw refuse(`calls that no rule names fail with EPERM there, and in the base profile with ${defaultErrnoRet}`)
  const rules = syscalls.map(({ names, action, errnoRet, args }) => ({
    names,
    action,
    ...(errnoRet === undefined ? {} : { errnoRet }),
    ...(args ? { args } : {}),
  }))
  const values = rules.flatMap(({ args = [] }) => args.flatMap(({ value, valueTwo = 0 }) => [value, valueTwo]))
  if (values.some((value) => value > INT64_MAX)) throw refuse('a rule compares with a number of more than 63 bits')
  return {
    apiVersion: 'security-profiles-operator.x-k8s.io/v1',
    kind: 'SeccompProfile',
    metadata: { name },
    spec: { ...rest, syscalls: rules },
  }
}

function ociProfile({ rules, metadata }: WantedPolicy, options: ProfileOptions, target: Target): string {
  const { base, listener, user, capAdd = [], objectName } = options
  checkUsage(
    objectName === undefined || listener === undefined || OPERATOR_SOCKET.test(listener),
    'Cannot use --listener here: the operator takes only sockets in /var/run/security-profiles-operator/',
  )
  const usual = objectName === undefined ? SOCKET : OPERATOR_LISTENER
  const listenerPath = listener ?? (user ? userSocket() : usual)
  const profile = onTopOf(base, () =>
    compileOci({
      rules,
      architectures: machine().architectures,
      ...(base === undefined ? {} : { base: readBase(base, target, listenerPath, capAdd) }),
      flags: target.flags,
      listenerPath,
      metadata: metadata.map((line) => `${line}\n`).join(''),
    }),
  )
  return formatProfile(objectName === undefined ? profile : operatorObject(profile, objectName))
}

/**
 * Makes a profile, which is the filter and the policy of a container.
 *
 * @throws {Error} if the base profile cannot be used
 */
export function makeProfile(wanted: WantedPolicy, options: ProfileOptions): Profile {
  const { target, base, listener, output } = options
  if (target) return { text: ociProfile(wanted, options, targetHere(target)) }
  checkUsage(
    !wanted.reach.mount?.fuse.size,
    'Cannot make a profile for LXC: mount.fuse is not served there; use mount.allowed, or podman',
  )
  return profileForLxc({ rules: wanted.rules, metadata: wanted.metadata, base, listener, output })
}

/** Writes a profile into a directory that is there: one that is not there may be mistyped. */
export function writeProfile(text: string, file: string, otherwise = 'name a file that can be written'): void {
  const directory = dirname(resolve(file))
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory())
    throw new Error(`Cannot write the profile: "${directory}" is not a directory; make it first, or name another one`)
  try {
    writeWhole(file, text)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const room = code === 'ENOSPC' || code === 'EDQUOT' ? 'make room, or ' : ''
    const remedy = code === undefined ? '' : `; ${room}${otherwise}`
    throw new Error(`Cannot write the profile: ${message}${remedy}`)
  }
}

interface LxcOptions {
  readonly rules: readonly Rule[]
  /** The lines of the metadata: the policy. */
  readonly metadata: readonly string[]
  readonly base?: string | undefined
  readonly listener?: string | undefined
  readonly output?: string | undefined
}

/** Makes the policy file for LXC, and the lines of the container's configuration that name the file. */
function profileForLxc({ rules, metadata, base, listener = LXC_SOCKET, output }: LxcOptions): {
  readonly text: string
  readonly configuration: string
} {
  const configuration = [
    `lxc.seccomp.profile = ${output === undefined ? 'THIS FILE' : resolve(output)}`,
    `lxc.seccomp.notify.proxy = unix:${listener}`,
    // A value of LXC's configuration cannot hold a line break: see runtimes/lxc.ts.
    `lxc.seccomp.notify.cookie = ${metadata.join(';')}`,
  ]
  const comments = output === undefined ? ['In the configuration of the container:', ...configuration] : []
  const text = onTopOf(base, () => compileLxc(rules, base === undefined ? undefined : readLxcBase(base), comments))
  return { text, configuration: `${configuration.join('\n')}\n` }
}

function readLxcBase(file: string): LxcPolicy {
  const refuse = (why: string) => refusal(file, why)
  let policy: LxcPolicy
  try {
    policy = parseLxcPolicy(readText(file, { pipes: true }), machines[process.arch]?.sections ?? new Set())
  } catch (error) {
    const { message } = error as Error
    throw refuse(message.includes('; ') ? message : `${message}; name a policy as LXC has them`)
  }
  const { defaultAction, syscalls = [] } = policy.profile
  if ([defaultAction, ...syscalls.map(({ action }) => action)].includes(NOTIFY))
    throw refuse('it has notify rules of its own, for another proxy, and a container has one; name one without them')
  return policy
}
