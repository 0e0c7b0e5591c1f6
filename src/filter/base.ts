import { type ErrnoName, errnos } from '../abi/errno.ts'
import { briefly } from '../shared/texts.ts'
import containerd from './bases/containerd.json' with { type: 'json' }
import crio from './bases/cri-o.json' with { type: 'json' }
import { type Cube, intersect, toArgs, toCubes, without } from './condition.ts'
import type { OciRule, OciSeccomp } from './oci.ts'

/** A base profile that comes with Intercede. */
interface EngineDefault {
  readonly profile: OciSeccomp
  /** The capabilities of the engine's containers that ask for none. */
  readonly caps: readonly string[]
}

/** What Kubernetes calls RuntimeDefault, by the name of the engine: scripts/seccomp-bases.js makes these files. */
const ENGINES: ReadonlyMap<string, EngineDefault> = new Map(
  Object.entries({ containerd, 'cri-o': crio }).map(([name, { source: _, caps, ...profile }]) => [
    name,
    { profile, caps },
  ]),
)

/** Returns the default profile of an engine; undefined if the name is that of a file. */
export const engineDefault = (name: string): EngineDefault | undefined => ENGINES.get(name)

/** What a rule does: with an errno, which is EPERM where none stands; podman takes a name before a number. */
export function effect({ action, errnoRet, errno }: Omit<OciRule, 'names'>): string {
  if (action !== 'SCMP_ACT_ERRNO' && action !== 'SCMP_ACT_TRACE') return action
  const number = errno ? (Object.hasOwn(errnos, errno) ? errnos[errno as ErrnoName] : errno) : errnoRet
  return `${action} ${number ?? errnos.EPERM}`
}

const isConditional = ({ args }: OciRule): boolean => (args?.length ?? 0) > 0
export const isGuarded = ({ includes, excludes }: OciRule): boolean =>
  [includes, excludes].some((guard) => Object.values(guard ?? {}).some((value) => value?.length > 0))

/** Tells whether two rules are never in force together, because `a` requires a capability that `b` excludes. */
const excludesOther = (a: OciRule, b: OciRule): boolean =>
  a.includes?.caps?.some((cap) => b.excludes?.caps?.includes(cap)) === true
const exclusive = (a: OciRule, b: OciRule): boolean => excludesOther(a, b) || excludesOther(b, a)

const overlap = (a: OciRule, b: OciRule): boolean =>
  toCubes(a).some((x) => toCubes(b).some((y) => intersect(x, y).length > 0))

/** Tells whether a rule repeats the default action. Runtimes skip such rules, since libseccomp refuses them. */
export function repeatsDefault(rule: OciRule, { defaultAction, defaultErrnoRet, defaultErrno }: OciSeccomp): boolean {
  const fallback = {
    action: defaultAction,
    ...(defaultErrnoRet === undefined ? {} : { errnoRet: defaultErrnoRet }),
    ...(defaultErrno === undefined ? {} : { errno: defaultErrno }),
  }
  return effect(rule) === effect(fallback)
}

const contradiction = (name: string, a: OciRule, b: OciRule): RangeError =>
  new RangeError(`its rules for ${name} contradict each other (${effect(a)} and ${effect(b)})`)

/**
 * Returns the rules of a base profile that decide about the call `name`. In libseccomp an unconditional rule beats a
 * conditional one wherever it stands; this is resolved here, before the unconditional rule gets conditions of ours. Of
 * two unconditional rules the first counts: with a guard, only where the guard holds, which conditions cannot say.
 *
 * @throws {RangeError} if the meaning of the base depends on a guard, or on the order in which libseccomp compares
 */
function decisive(name: string, base: OciSeccomp): readonly OciRule[] {
  const rules = (base.syscalls ?? []).filter((rule) => rule.names.includes(name) && !repeatsDefault(rule, base))
  const unconditional = rules.filter((rule) => !isConditional(rule))
  const winner = unconditional.find((rule) => !isGuarded(rule))
  if (winner) {
    const rival = unconditional.slice(0, unconditional.indexOf(winner)).find((rule) => effect(rule) !== effect(winner))
    if (rival) throw contradiction(name, rival, winner)
    return [winner]
  }
  for (const [index, a] of rules.entries()) {
    const rival = rules.slice(index + 1).find((b) => effect(a) !== effect(b) && !exclusive(a, b) && overlap(a, b))
    if (rival) throw contradiction(name, a, rival)
  }
  return rules
}

/** Returns the rules of the base for one call, each restricted to registers that `taken` does not contain. */
export function remainder(name: string, base: OciSeccomp, taken: readonly Cube[]): readonly OciRule[] {
  return decisive(name, base).flatMap((rule) =>
    toCubes(rule)
      .flatMap((cube) => without(cube, taken))
      .map((cube) => {
        const { args: _, ...rest } = rule
        return { ...rest, names: [name], ...toArgs(cube) }
      }),
  )
}

/** The facts by which a container engine resolves the guards of a profile. */
export interface GuardFacts {
  readonly caps: ReadonlySet<string>
  /** The architecture as Go spells it: amd64, arm64. */
  readonly arch: string
  /** The major and minor version of the kernel. */
  readonly kernel: readonly [number, number]
}

function applies({ includes = {}, excludes = {} }: OciRule, { caps, arch, kernel }: GuardFacts): boolean {
  const isFrom = (version: string): boolean => {
    const [major = 0, minor = 0] = version.split('.').map(Number)
    return kernel[0] > major || (kernel[0] === major && kernel[1] >= minor)
  }
  return (
    (includes.caps ?? []).every((cap) => caps.has(cap)) &&
    !(excludes.caps ?? []).some((cap) => caps.has(cap)) &&
    (!includes.arches?.length || includes.arches.includes(arch)) &&
    !excludes.arches?.includes(arch) &&
    isFrom(includes.minKernel ?? '0.0') &&
    !(excludes.minKernel && isFrom(excludes.minKernel))
  )
}

/** Returns the number of an errno; where a rule has its name too, podman takes that. @throws {RangeError} */
function numberOf(name: string | null | undefined, number: number | null | undefined): number | undefined {
  if (!name) return number ?? undefined
  if (!Object.hasOwn(errnos, name))
    throw new RangeError(`it has an unknown errno, ${briefly(name)}; give its number as errnoRet`)
  return errnos[name as ErrnoName]
}

/**
 * Turns a profile of podman or Docker into plain OCI, as the engine would for a container with these capabilities:
 * OCI runtimes know neither guards nor `archMap`.
 *
 * @param native the architecture whose entry of `archMap` is taken, such as SCMP_ARCH_X86_64
 * @throws {RangeError} if it has an errno that we do not know
 */
export function resolveGuards(base: OciSeccomp, native: string, facts: GuardFacts): OciSeccomp {
  const { archMap, defaultErrno, defaultErrnoRet, syscalls = [], ...rest } = base
  const entry = archMap?.find(({ architecture }) => architecture === native)
  const fallback = numberOf(defaultErrno, defaultErrnoRet)
  return {
    ...rest,
    ...(fallback === undefined ? {} : { defaultErrnoRet: fallback }),
    ...(entry ? { architectures: [native, ...(entry.subArchitectures ?? [])] } : {}),
    syscalls: syscalls
      .filter((rule) => applies(rule, facts))
      .map(({ names, action, errno, errnoRet, args }) => {
        const number = numberOf(errno, errnoRet)
        return {
          ...{ names, action },
          ...(number === undefined ? {} : { errnoRet: number }),
          ...(args?.length ? { args } : {}),
        }
      }),
  }
}
