import { isDeepStrictEqual } from 'node:util'
import { cgroupProblem } from '../../caller/programs/cgroup-lookup.ts'
import { essentialTo, ineffectiveKeys } from '../../policy/ineffective.ts'
import { fullName } from '../../policy/key.ts'
import { PROFILE } from '../../policy/key-value-lines.ts'
import { callOf, type KeyName, keys, toKeyName } from '../../policy/keys.ts'
import type { Policy } from '../../policy/policy.ts'
import type { Note } from '../../policy/resolve.ts'
import { aboveCeiling, type Settings } from '../../policy/settings.ts'
import { trappedCalls } from '../../runtimes/bundle.ts'
import { briefly, byKey, counted, fewOf } from '../../shared/texts.ts'
import { callsOf, untrapped } from '../../syscalls/index.ts'
import { type Admission, barredToo, type Decision, explainBarred } from '../containers/admission.ts'
import type { ContainerEntry } from '../containers/registry.ts'
import { changedKeys } from '../log/effective-keys.ts'
import { registrationWarnings } from '../log/event-log.ts'
import type { ChangedKeys, SetKey, Traps } from '../process/events.ts'
import type { SetRequest } from './protocol.ts'

/** An allowed change of a container's policy. */
export interface PolicyChange {
  readonly said: Decision['said']
  readonly set: readonly SetKey[]
  readonly changed: ChangedKeys
  readonly withheld: readonly string[]
  /** Everything that cannot work after the change. */
  readonly warnings: readonly string[]
  /** Annotations that do not do what they say after the change, and what was set before and contradicts it. */
  readonly ignored: readonly Note[]
}

/** A change that an administrator requested. */
interface RequestedChange extends PolicyChange {
  /** The warnings that the change causes, or that are about the requested keys. */
  readonly news: readonly string[]
}

/** What a reload changes for a container. */
export interface ReloadPlan {
  readonly entry: ContainerEntry
  /** Undefined if nothing changes. */
  readonly change?: PolicyChange & { readonly traps: Traps }
  /** As in `ContainerEntry`. */
  readonly wrong?: string | undefined
  /** Why the container would lose the profile that it has, or all its keys. */
  readonly loses?: string | undefined
}

/** Replaces keys that were set before with those of a request. */
function merged(before: readonly SetKey[], { set, unset }: SetRequest, by: string): readonly SetKey[] {
  const given = Object.entries(set).map(([key, value]): SetKey => {
    const name = toKeyName(key)
    return { key: name, value: canonical(name, value), by, time: Date.now() }
  })
  const gone = unset.map((key) => toKeyName(key))
  const replaced = new Set<string>([...gone, ...given.map(({ key }) => key)])
  return [...before.filter(({ key }) => !replaced.has(key)), ...given]
}

function canonical(name: KeyName, value: string): string {
  try {
    return keys[name].canonical(value)
  } catch {
    throw new Error(`${fullName(name)} is ${briefly(value)}, allowed is ${keys[name].allowed}`)
  }
}

const ignoredIn = ({ details }: Decision['resolved']): readonly Note[] => (details.ignored ?? []) as readonly Note[]

/** Says why a container cannot have the changed policy at all. @param given the keys that are set now */
function obstacle(
  { container, wrong }: ContainerEntry,
  { said, withheld, resolved }: Decision,
  given: readonly KeyName[],
): string | undefined {
  const barred = said.barred ?? container.barred
  if (barred) return `all its calls are left to the kernel: ${explainBarred(barred, said.wrong ?? wrong).says}`
  // An annotation that is ignored, which anybody may give, must not stop an administrator.
  const contradicted = ignoredIn(resolved).findLast(({ key }) => given.some((each) => each === key))
  if (contradicted) return contradicted.why.replace(/^Cannot read policy: /, '')
  const had = container.policy.mount?.fuse
  const more = [...(said.policy.mount?.fuse ?? [])].some(([type, program]) => had?.get(type) !== program)
  if (more && container.exec === undefined)
    return 'it is not known how the runtime of the container starts a program; set the key in its profile and start it again'
  return withheld[0]
}

/** Returns the calls of a key that the filter does not trap. They do not matter for switching a key off. */
function unreached(name: KeyName, value: string, policy: Policy, traps: ReadonlySet<string>): readonly string[] {
  const both = [name, callOf(name) ?? name]
  if (value === keys[name].default) return both.flatMap((each) => untrapped(policy, each, traps))
  const missing = both.flatMap(callsOf).filter((call) => !traps.has(call))
  // All calls of a key may be those of its options, of which it needs one.
  const ofOptions = callsOf(name).length === 0 ? essentialTo(name).flatMap(callsOf) : []
  return ofOptions.some((call) => traps.has(call)) ? missing : [...missing, ...ofOptions]
}

/** Returns why requested keys would have no effect. */
function flawOf(given: ReadonlyMap<KeyName, string>, { said }: Decision, traps: Traps): string | undefined {
  const above = [...given].flatMap(([name, value]) => aboveCeiling(name, value, said.settings.get(name)!) ?? [])[0]
  if (above !== undefined || traps === 'unknown') return above
  const missing = new Map([...given].map(([name, value]) => [name, unreached(name, value, said.policy, traps)]))
  const names = [...missing].flatMap(([name, calls]) => (calls.length > 0 ? [name] : []))
  if (names.length === 0) return undefined
  const [idle] = ineffectiveKeys(said.settings, (key) => names.includes(key))
  const also = idle === undefined ? '' : `, and ${idle}`
  return `the filter of the container does not trap ${[...new Set([...missing.values()].flat())].join(', ')}${also}; make its profile with ${names.map(fullName).join(' and ')}, and then the container anew: one that is started again keeps its filter`
}

function unknownTraps(traps: Traps, given: readonly KeyName[]): readonly string[] {
  if (traps !== 'unknown' || given.length === 0) return []
  return ['the bundle cannot be read, so it is unknown whether the filter of the container traps the calls']
}

/**
 * Decides whether a running container's policy may be changed as requested.
 *
 * @throws {Error} with the reason and the remedy
 */
export function planChange(
  entry: ContainerEntry,
  request: SetRequest,
  by: string,
  say: Admission['say'],
): RequestedChange {
  const { handover, settings: before } = entry
  const set = merged(entry.set, request, by)
  const decision = say(handover, set)
  const { said } = decision
  const traps: Traps = trappedCalls(handover) ?? 'unknown'
  const given = Object.keys(request.set).map((key) => toKeyName(key))
  const values = new Map(given.map((name) => [name, set.find(({ key }) => key === name)!.value]))
  const flaw = flawOf(values, decision, traps) ?? obstacle(entry, decision, given)
  if (flaw !== undefined) throw new Error(flaw)
  const [all, known] = [decision, say(handover, entry.set)].map((each) => warningsOf(entry, each, traps))
  const unclear = unknownTraps(traps, given)
  return {
    said,
    set,
    changed: changedKeys(before, said.settings, said.policy, traps) ?? {},
    withheld: decision.withheld,
    ignored: ignoredIn(decision.resolved),
    warnings: [...all!, ...unclear],
    news: [...all!.filter((text) => !known!.includes(text) || given.some((name) => isAbout(text, name))), ...unclear],
  }
}

/** Returns what cannot work of a running container's policy. */
function warningsOf(
  { handover, init }: ContainerEntry,
  { said: { barred, wrong, settings, policy }, resolved, withheld }: Decision,
  traps: Traps,
): readonly string[] {
  const unruly = init ? cgroupProblem(init.handles.cgroup) : undefined
  const about = { handover, barred, wrong, unruly, resolved: { ...resolved, settings, policy }, traps }
  return registrationWarnings({ type: 'registered', ...about, withheld })
}

const NOTHING_SAID = { ofUser: undefined, barred: undefined, profile: undefined, wrong: undefined }

/** Decides what a reload changes for a running container. @param say decides by the reload's configuration */
export function planReload(
  entry: ContainerEntry,
  say: (...about: Parameters<Admission['say']>) => Decision,
): ReloadPlan {
  const { container, handover, init, settings: before, set, wrong: wrongBefore } = entry
  const decision = say(handover, set)
  const unseen = handover.isLate ? 'invisibleCaller' : 'unknownContainer'
  const said = barredToo(decision.said, init ? init.barred : unseen)
  const { withheld } = decision
  const { wrong } = said
  const { policy, ofUser, barred } = container
  const now = { policy, ofUser, barred, settings: before, profile: entry.profile, wrong: wrongBefore }
  if (isDeepStrictEqual(now, { ...NOTHING_SAID, ...said })) return { entry, wrong }
  // Who has lost its policy already has nothing to lose; why it has may be said otherwise now.
  const loses = wrongBefore === undefined ? (wrong ?? lostProfile(before, decision)) : undefined
  const traps: Traps = trappedCalls(handover) ?? 'unknown'
  const changed = changedKeys(before, said.settings, said.policy, traps) ?? {}
  const warnings = warningsOf(entry, { ...decision, said }, traps)
  const ignored = ignoredIn(decision.resolved)
  return { entry, wrong, loses, change: { said, set, changed, withheld, warnings, ignored, traps } }
}

/** Returns why an annotation can no longer choose the profile that gives a container some of its keys. */
function lostProfile(before: Settings, { resolved }: Decision): string | undefined {
  const chosen = ignoredIn(resolved).find(({ key }) => key === PROFILE)
  const had = [...before.values()].some(({ origin }) => origin.kind === 'profile' && origin.name === chosen?.value)
  return chosen && had ? `its profile "${chosen.value}" is not there for it any more: ${chosen.why}` : undefined
}

/** Returns the running containers that a reload would take their profile from, each with why. */
const losers = (plans: readonly ReloadPlan[]): readonly { readonly entry: ContainerEntry; why: string }[] =>
  plans.flatMap(({ entry, loses }) => (loses === undefined ? [] : [{ entry, why: loses }]))

/** @throws {Error} if a reload would take their profile from running containers: a typing error must not do that */
export function requirePolicies(
  plans: readonly ReloadPlan[],
  nameOf: (entry: ContainerEntry) => string | undefined,
): void {
  const lost = losers(plans)
  if (lost.length === 0) return
  const named = lost.map(({ entry, why }) => {
    const [id, name] = [entry.container.id, nameOf(entry)]
    return [why, name === undefined ? id : `${id} (${name})`] as const
  })
  const all = [...byKey(named)].map(([why, few]) => `${fewOf(few)}: ${why}`)
  throw new Error(
    `Cannot keep the policy of ${counted(lost.length, 'running container')}, ${all.join('; ')}; correct the configuration, or take the keys from them by a reload with --force`,
  )
}

/** Tells whether a warning begins with a key, in its short form or in full. */
const isAbout = (warning: string, name: KeyName): boolean =>
  [name, fullName(name)].some((word) => warning.startsWith(`${word} `) || warning.startsWith(`${word}:`))
