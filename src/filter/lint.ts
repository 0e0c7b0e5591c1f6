import { effect, isGuarded, repeatsDefault } from './base.ts'
import { NOTIFY, type OciRule, type OciSeccomp } from './oci.ts'
import { type Target, TSYNC, WAIT_KILLABLE_RECV } from './target.ts'

export interface LintFinding {
  /** wrong: no profile is made on top of this one; unwise: `intercede profile --check` only reports it. */
  readonly is: 'wrong' | 'unwise'
  readonly says: string
}

const wrong = (says: string): LintFinding => ({ is: 'wrong', says })
const unwise = (says: string): LintFinding => ({ is: 'unwise', says })

const notifying = (profile: OciSeccomp): readonly OciRule[] =>
  (profile.syscalls ?? []).filter(({ action }) => action === NOTIFY)

function hanging(profile: OciSeccomp, { name: target, callsBeforeHandOver }: Target): readonly LintFinding[] {
  const names = new Set(notifying(profile).flatMap((rule) => rule.names))
  return callsBeforeHandOver
    .filter((name) => names.has(name))
    .map((name) => wrong(`SCMP_ACT_NOTIFY for ${name} would hang ${target} before it can hand over the listener`))
}

function agent(profile: OciSeccomp, listenerPath: string | undefined): readonly LintFinding[] {
  const { defaultAction, listenerPath: other } = profile
  return [
    ...(defaultAction === NOTIFY ? [wrong('the default action must not be SCMP_ACT_NOTIFY')] : []),
    ...(other !== undefined && listenerPath !== undefined && other !== listenerPath
      ? [wrong(`its listenerPath ${JSON.stringify(other)} is another agent's, and a container has one agent`)]
      : []),
    ...(other === undefined && notifying(profile).length > 0
      ? [wrong('it has rules with SCMP_ACT_NOTIFY and no listenerPath: the runtime would find no agent')]
      : []),
  ]
}

function interruptible(profile: OciSeccomp, target: Target): readonly LintFinding[] {
  if (notifying(profile).length === 0 || profile.flags?.includes(WAIT_KILLABLE_RECV)) return []
  const lack =
    target.flags.length > 0 ? `the flag ${WAIT_KILLABLE_RECV} is missing` : `profiles for ${target.name} have no flags`
  return [unwise(`${lack}: a signal restarts a call that is being served, and it may then find its own work (EEXIST)`)]
}

/** The kernel takes this flag only with one that no profile can have. */
const synced = (profile: OciSeccomp): readonly LintFinding[] =>
  profile.flags?.includes(TSYNC) && notifying(profile).length > 0
    ? [wrong(`no container starts with ${TSYNC} and SCMP_ACT_NOTIFY: the kernel refuses the two together; take it out`)]
    : []

function refusedFlags({ flags = [] }: OciSeccomp, { name, program, flags: taken }: Target): readonly LintFinding[] {
  if (flags.includes(WAIT_KILLABLE_RECV) && taken.length > 0 && !taken.includes(WAIT_KILLABLE_RECV))
    return [
      wrong(
        `${name} or the kernel does not know ${WAIT_KILLABLE_RECV}, so no container starts with it here; take it out`,
      ),
    ]
  if (flags.length === 0 || taken.length > 0) return []
  return [wrong(`not every ${program} takes a profile with flags, and this one has ${flags.join(', ')}; take them out`)]
}

/**
 * Finds rules that never match: in libseccomp an unconditional rule beats conditional ones wherever it stands, and a
 * rule that repeats another adds nothing. Rules with guards are left out, since guards are resolved when a container
 * starts, and rules that repeat the default, which runtimes skip.
 */
function shadowed(profile: OciSeccomp): readonly LintFinding[] {
  const plain = (profile.syscalls ?? []).filter((rule) => !isGuarded(rule) && !repeatsDefault(rule, profile))
  const whole = new Map<string, OciRule>()
  for (const rule of plain.filter(({ args }) => !args?.length)) {
    for (const name of rule.names) if (!whole.has(name)) whole.set(name, rule)
  }
  return plain.flatMap((rule) =>
    rule.names.flatMap((name) => {
      const winner = whole.get(name)
      if (!winner || winner === rule || effect(winner) === effect(rule)) return []
      const says = `${effect(rule)} for ${name} never holds: ${effect(winner)} without conditions beats it`
      return [rule.action === NOTIFY ? wrong(says) : unwise(says)]
    }),
  )
}

/**
 * Returns what is wrong or unwise in a profile.
 *
 * @param listenerPath the path of our agent; if it is left out, any agent is accepted
 */
export function lintProfile(profile: OciSeccomp, target: Target, listenerPath?: string): readonly LintFinding[] {
  return [
    ...agent(profile, listenerPath),
    ...hanging(profile, target),
    ...shadowed(profile),
    ...refusedFlags(profile, target),
    ...synced(profile),
    ...interruptible(profile, target),
  ]
}

/**
 * Returns what is wrong in a profile that its reader gets as it is. A base profile is resolved before: what is wrong
 * here is not wrong in a base.
 */
export function lintUnresolved(profile: OciSeccomp, { name, resolvesGuards }: Target): readonly LintFinding[] {
  if (resolvesGuards) return []
  const guarded = profile.syscalls?.find(isGuarded)
  const says = (what: string) => `${name} does not know ${what}: podman and Docker resolve them; name it with --base`
  return [
    ...(profile.archMap?.length ? [wrong(says('archMap'))] : []),
    ...(guarded
      ? [wrong(`${says('includes and excludes')}; without them a rule for ${guarded.names[0]} always holds`)]
      : []),
  ]
}
