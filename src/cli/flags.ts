import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { thisHost } from '../doctor/host-facts.ts'
import { targetHere } from '../doctor/probes.ts'
import { deviceNames } from '../kernel/device-names.ts'
import { orElse } from '../kernel/error.ts'
import { type Config, parseConfig } from '../policy/config.ts'
import { harmless, numbersOf } from '../policy/devices.ts'
import { capabilitiesFor } from '../policy/ineffective.ts'
import { PROFILE, parseAssignment } from '../policy/key-value-lines.ts'
import { resolve } from '../policy/resolve.ts'
import { clamped, settle } from '../policy/settings.ts'
import { type Instructions, lxcfsFiles } from '../runtimes/flags.ts'
import { instructed, namesWith } from '../runtimes/known/index.ts'
import { nodevStorage, readerByRunc } from '../runtimes/known/podman.ts'
import { type Asked, printOffers } from './completion.ts'
import { type FlagsOptions, hasOnlyKeys, placeOf, prepareProfile } from './flags-profile.ts'
import { configFileIfThere } from './paths.ts'
import { printAtOnce, say } from './print.ts'
import { asUsage, checkUsage, UsageError } from './usage.ts'
import { type PolicyOptions, readConfiguration, type WantedPolicy, wantedPolicy } from './wanted-policy.ts'

function instructionsFor(name: string, user = false): Instructions {
  const instructions = instructed.find((runtime) => runtime.name === name)!.instructions
  if (!user) return instructions
  if (!instructions.userDirectory)
    throw new UsageError(
      `Cannot use --user for ${name}: it is for ${namesWith('userDirectory').join(', ')}; leave it out`,
    )
  // podman makes one user namespace for all containers of a user, and the user's daemon runs in it too.
  return { ...instructions, prepared: [], directory: instructions.userDirectory() }
}

const isPrepared = ({ prepared = [] }: Instructions): boolean =>
  prepared.every(([file, text]) => existsSync(file) && text.test(readFileSync(file, 'utf8')))

/** Tells whether podman starts containers by a runc that does not know every flag of the profile. */
function isByRunc({ target }: Instructions): boolean {
  const list = (directory: string): readonly string[] => orElse([], () => readdirSync(directory))
  const reader = readerByRunc(thisHost.read, list, thisHost.which)
  if (!target || !reader) return false
  const { flags } = targetHere(reader)
  return targetHere(target).flags.some((flag) => !flags.includes(flag))
}

/** The words of the shell stay as they are only without these characters. */
const SPLIT = /[\s*?[\]]/

/** The options that say something only for some runtimes, or only without others. */
function checkCombination(
  name: string,
  instructions: Instructions,
  options: FlagsOptions,
  isGiven: ReadonlySet<string>,
): void {
  const { annotates, takesFirstId } = instructions
  checkUsage(
    !(isGiven.has('base') && isGiven.has('no-base')),
    'Cannot use --base with --no-base: one names a filter to keep, the other keeps none; leave one out',
  )
  checkUsage(
    takesFirstId === true || !isGiven.has('first-id'),
    `Cannot use --first-id for ${name}: that runtime chooses the ids itself; --first-id is for ${namesWith('takesFirstId').join(', ')}`,
  )
  checkUsage(
    annotates !== false || !options.annotation?.length,
    `Cannot use -a for ${name}: it has no annotations; use -c`,
  )
}

/** Requires that a shell which puts the output into a command line leaves each line the word that it is. */
function checkWords(lines: readonly string[], { prints }: Instructions): void {
  const split = prints === 'options' ? lines.find((line) => SPLIT.test(line)) : undefined
  checkUsage(
    split === undefined,
    `Cannot print ${JSON.stringify(split)}: in $(...) the shell would split or expand it; use names without spaces, * ? [ and ]`,
  )
}

/** @param given the options of the command line of which commander keeps only the last, or a default */
export function flagsCommand(name: string, options: FlagsOptions, given: ReadonlySet<string>): void {
  const instructions = instructionsFor(name, options.user)
  checkCombination(name, instructions, options, given)
  const annotations = givenAnnotations(options.annotation)
  const wanted = wantedPolicy(options)
  const place = placeOf(wanted, options, instructions)
  const fuse = wanted.reach.mount !== undefined && wanted.reach.mount.fuse.size > 0
  checkUsage(
    !fuse || instructions.mountsFuse !== false,
    `Cannot say anything about ${name}: mount.fuse is not served there; use mount.allowed, or podman`,
  )
  const lxcfs = lxcfsFiles(thisHost.read('/proc/self/mounts'))
  const {
    lines,
    besides,
    advice = [],
  } = instructions.flags({
    caps: capabilitiesFor(wanted.reach),
    profile: place.file,
    metadata: wanted.metadata,
    annotations,
    fuse,
    firstId: options.firstId,
    listener: options.listener,
    user: options.user === true,
    files: (wanted.reach.sysinfo && lxcfs) || [],
    devices: numbersOf(wanted.reach.mknod?.devices ?? []).filter((dev) => !harmless.includes(dev)),
    nodev: wanted.reach.mknod && !options.user ? nodevStorage(thisHost.read) : undefined,
    prepared: isPrepared(instructions),
    byRunc: isByRunc(instructions),
    onlyKeys: hasOnlyKeys(options, instructions),
  })
  checkWords(lines, instructions)
  const remarks = [...besides, ...wanted.ineffective, ...remarksOn(annotations, wanted, options)]
  prepareProfile({ name, instructions }, wanted, options, place)
  for (const text of process.stdout.isTTY ? [...remarks, ...advice] : remarks) say(text)
  printAtOnce(`${lines.join('\n')}\n`)
}

type Annotation = readonly [key: string, value: string]

/** Reads the annotations, each value in its canonical spelling. */
const givenAnnotations = (texts: readonly string[] = []): readonly Annotation[] =>
  asUsage(() => {
    const annotations = texts.map((text) => parseAssignment(text))
    // A value that is invalid in every configuration is an error; annotations that only ours ignores are listed below.
    settle(annotations.filter(([key]) => key !== PROFILE))
    return annotations
  })

/** Reads what holds for annotations; nothing does where there is no configuration. */
function configForAnnotations({ daemonConfig, user = false }: PolicyOptions): Config {
  const file = daemonConfig ?? configFileIfThere(user)
  return file === undefined ? parseConfig('', '') : readConfiguration(file)
}

/** Lists the annotations that the daemon's configuration ignores, or lowers to its ceiling. */
function lessened({ metadata }: WantedPolicy, annotations: readonly Annotation[], config: Config): readonly string[] {
  const sources = { metadata: metadata.join('\n'), annotations: Object.fromEntries(annotations) }
  const { settings, notes } = resolve(config, sources, deviceNames)
  const ignored = notes.map(({ key, why }) => {
    const section = key === PROFILE ? 'annotations.profiles' : 'annotations.raise'
    return `${key}: ${why}; unless ${section} of the daemon's configuration lists it`
  })
  const annotated = [...settings].filter(([, { origin }]) => origin.kind === 'annotation')
  return [...ignored, ...clamped(new Map(annotated))]
}

/** Says what becomes of the annotations; the configuration may be readable for root alone. */
function remarksOn(
  annotations: readonly Annotation[],
  wanted: WantedPolicy,
  options: PolicyOptions,
): readonly string[] {
  if (annotations.length === 0) return []
  try {
    return lessened(wanted, annotations, configForAnnotations(options))
  } catch (error) {
    return [`which annotations hold is not known: ${(error as Error).message}`]
  }
}

/** Prints the names of the profiles of the daemon's configuration that a shell may offer. */
export const listProfiles = (asked: Asked): void =>
  printOffers(asked, () => {
    const file = asked.daemonConfig ?? configFileIfThere(asked.user ?? false)
    if (file === undefined) return []
    const { profiles } = readConfiguration(file)
    return [...profiles].map(([name, keys]) => [name, keys.map(([key, text]) => `${key}=${text}`).join(', ')])
  })
