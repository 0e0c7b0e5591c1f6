import { compileOci } from '../../filter/compile.ts'
import { lintProfile } from '../../filter/lint.ts'
import type { OciSeccomp } from '../../filter/oci.ts'
import { machines, type Target } from '../../filter/target.ts'
import { deviceNames } from '../../kernel/device-names.ts'
import type { Config } from '../../policy/config.ts'
import { PolicyError } from '../../policy/error.ts'
import { formatLines } from '../../policy/key-value-lines.ts'
import { resolve } from '../../policy/resolve.ts'
import { NRI_PROFILES, type NriCreation, NriRefusal, type NriSeccomp } from '../../runtimes/nri.ts'
import { briefly, didYouMean, fewOf } from '../../shared/texts.ts'
import { rulesFor } from '../../syscalls/index.ts'

/** The annotation with which a Pod names a profile for all its containers, and, in a subdomain, for one of them. */
const ANNOTATION = 'intercede.io/profile'
/** In `nri.namespaces`: every namespace. */
const EVERY = '*'
/** In characters: what is longer was not meant to be the name of a profile. */
const NAME_LIMIT = 253

/** What a node gives the containers of its Pods. */
export interface NriNode {
  readonly config: Config
  /** Where the runtime hands over the listener. */
  readonly socketPath: string
  readonly target: Target
}

/** Returns the profile that a Pod names for a container; an annotation for the one container overrides the other. */
export function wantedProfile({ pod, container }: Pick<NriCreation, 'pod' | 'container'>): string | undefined {
  const at = (name: string) => pod?.annotations.find(({ key }) => key === name)?.value
  return at(`${container?.name}.container.${ANNOTATION}`) ?? at(ANNOTATION)
}

/** @throws {NriRefusal} if there is no such profile, or the namespace may not use it */
function requireAllowed(name: string, namespace: string, { profiles, nri }: Config): void {
  const allowed = [namespace, EVERY].flatMap((key) => nri.namespaces.get(key) ?? [])
  if (!profiles.has(name))
    throw new NriRefusal(
      `the configuration of this node has no such profile${didYouMean(name.slice(0, NAME_LIMIT), allowed)}`,
    )
  if (allowed.includes(name)) return
  const others = allowed.length > 0 ? `; it may use ${fewOf(allowed)}` : ''
  throw new NriRefusal(`nri.namespaces does not allow it in the namespace ${briefly(namespace)} on this node${others}`)
}

/** Returns the policy that the container would have without us. @throws {NriRefusal} if we must not change it */
function basePolicy({ container }: NriCreation): OciSeccomp | undefined {
  const { seccompProfile: profile, seccompPolicy: policy } = container?.linux ?? {}
  if (profile?.profileType === NRI_PROFILES.localhost)
    throw new NriRefusal('its seccompProfile is Localhost, which it would widen; use RuntimeDefault')
  if (policy?.listenerPath) throw new NriRefusal('its seccomp policy has a listener, and a container has one listener')
  if (policy?.defaultAction) return toOci(policy)
  if (profile?.profileType === NRI_PROFILES.unconfined) return undefined
  throw new NriRefusal(
    'the runtime reports no seccomp policy: the container is privileged, or the runtime is not containerd 2.3 or later',
  )
}

/**
 * Returns the policy of a container whose Pod names a profile: the rules of the profile on top of what the runtime
 * reports. So whatever the profile does not trap is allowed or refused as before.
 *
 * @param name the profile
 * @throws {NriRefusal} if the container cannot have it
 */
export function adjustedPolicy(
  name: string,
  creation: NriCreation,
  { config, socketPath, target }: NriNode,
): NriSeccomp {
  requireAllowed(name, creation.pod?.namespace ?? '', config)
  if (!creation.container?.linux?.namespaces.some(({ type }) => type === 'user'))
    throw new NriRefusal('it has no user namespace of its own: set hostUsers: false')
  const base = basePolicy(creation)
  const flaw = base && lintProfile(base, target, socketPath).find(({ is }) => is === 'wrong')
  if (flaw) throw new NriRefusal(`the seccomp policy of the runtime cannot be extended: ${flaw.says}`)
  const metadata = formatLines({ profile: { name }, entries: [] })
  const rules = refusing(() => rulesFor(resolve(config, { metadata }, deviceNames).policy))
  if (rules.length === 0) throw new NriRefusal('no key of it is on')
  const { architectures } = machines[process.arch]!
  const given = { rules, architectures, flags: target.flags, listenerPath: socketPath, metadata }
  return fromOci(refusing(() => compileOci({ ...given, ...(base ? { base } : {}) })))
}

/** Turns what is wrong with a profile, or with a policy to build upon, into a refusal. */
function refusing<T>(make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (error instanceof RangeError || error instanceof PolicyError) throw new NriRefusal(error.message)
    throw error
  }
}

type Reported = NonNullable<NonNullable<NonNullable<NriCreation['container']>['linux']>['seccompPolicy']>

/** RuntimeDefault has no errno of its own for what has no rule; containerd 2.3 would drop it from our answer. */
const toOci = ({ defaultAction, defaultErrno, architectures, flags, syscalls }: Reported): OciSeccomp => ({
  defaultAction,
  ...(defaultErrno ? { defaultErrnoRet: defaultErrno.value } : {}),
  ...(architectures.length > 0 ? { architectures } : {}),
  flags,
  syscalls: syscalls.map(({ names, action, errnoRet, args }) => ({
    names,
    action,
    ...(errnoRet ? { errnoRet: errnoRet.value } : {}),
    args,
  })),
})

const fromOci = ({ defaultErrnoRet, defaultErrno: _, syscalls = [], ...policy }: OciSeccomp): NriSeccomp => ({
  ...policy,
  ...(defaultErrnoRet === undefined ? {} : { defaultErrno: { value: defaultErrnoRet } }),
  syscalls: syscalls.map(({ names, action, errnoRet, args }) => ({
    names,
    action,
    ...(errnoRet === undefined ? {} : { errnoRet: { value: errnoRet } }),
    args: (args ?? []).map(({ index, value, valueTwo = 0, op }) => ({
      index,
      value: BigInt(value),
      valueTwo: BigInt(valueTwo),
      op,
    })),
  })),
})
