import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import type { Cap } from '../abi/credentials.ts'
import { targetHere } from '../doctor/probes.ts'
import { type LintFinding, lintProfile, lintUnresolved } from '../filter/lint.ts'
import { NOTIFY, type OciSeccomp } from '../filter/oci.ts'
import type { Target } from '../filter/target.ts'
import { deviceNames } from '../kernel/device-names.ts'
import type { Config } from '../policy/config.ts'
import { PolicyError } from '../policy/error.ts'
import { parseLines } from '../policy/key-value-lines.ts'
import { resolve } from '../policy/resolve.ts'
import { parsePolicy } from '../policy/settings.ts'
import { podBase, podTarget, targets, unresolved } from '../runtimes/known/index.ts'
import { makeProfile, OPERATOR_LISTENER, profileIn, writeProfile } from './make-profile.ts'
import { configFile } from './paths.ts'
import { printAtOnce, say } from './print.ts'
import { asAnswer, checkUsage } from './usage.ts'
import { type PolicyOptions, readConfiguration, wantedPolicy } from './wanted-policy.ts'

interface ProfileOptions extends PolicyOptions {
  readonly format: 'oci' | 'lxc' | 'spo'
  readonly runtime: string
  readonly name?: string
  readonly base?: string
  readonly capAdd?: readonly Cap[]
  readonly listener?: string
  readonly user?: true
  readonly output?: string
  readonly check?: string
}

const isWrong = ({ is }: LintFinding): boolean => is === 'wrong'

/**
 * Prints what is wrong or unwise in a profile.
 *
 * @param readers who may read it: the first that takes it counts, otherwise the first
 * @throws {Error} if anything is wrong
 */
function check(file: string, readers: readonly Target[], options: ConfigOptions): void {
  const refuse = (why: string) => new Error(`Cannot use the profile ${JSON.stringify(file)}: ${why}`)
  const profile = profileIn(file, refuse)
  const found = readers.map((target) => [
    ...lintProfile(profile, targetHere(target)),
    ...lintUnresolved(profile, target),
  ])
  const at = Math.max(
    0,
    found.findIndex((each) => !each.some(isWrong)),
  )
  if (at > 0) say(`checked for ${readers[at]!.name}, since ${readers[0]!.name} cannot read it; --runtime names another`)
  const findings = [...found[at]!, ...lintMetadata(profile, options)]
  if (findings.length > 0) printAtOnce(findings.map(({ is, says }) => `${is}: ${says}\n`).join(''))
  const count = findings.filter(isWrong).length
  if (count > 0)
    throw refuse(
      `${count} of its rules or settings ${count === 1 ? 'is' : 'are'} wrong; make it again, or name with --runtime who reads it`,
    )
}

/** The options that say something only beside others, or only without them. */
const combinations = (
  { format, base, capAdd, name }: ProfileOptions,
  isGiven: (option: string) => boolean,
  target: Target,
) =>
  [
    [format === 'lxc' && isGiven('runtime'), '--runtime', 'the format lxc is for LXC alone; leave one of them out'],
    [format !== 'oci' && isGiven('user'), '--user', 'LXC and Kubernetes have no daemon of a user; leave it out'],
    [
      format === 'spo' && target.resolvesGuards,
      '--runtime',
      'the operator resolves no conditions of rules; name crun or runc',
    ],
    [format !== 'spo' && name !== undefined, '--name', 'it names an object for --format spo; leave it out'],
    [
      capAdd && (format === 'lxc' || target.resolvesGuards),
      '--cap-add',
      `it is for ${unresolved.join(' and ')}, others look at the capabilities of the container themselves; leave it out`,
    ],
    [
      capAdd && base === undefined && format !== 'spo',
      '--cap-add',
      'it is about rules of a base profile; name one with --base',
    ],
  ] as const

function checkCombination(options: ProfileOptions, { isGiven, target }: Circumstances): void {
  for (const [isWrong, option, why] of combinations(options, isGiven, target))
    checkUsage(!isWrong, `Cannot use ${option} here: ${why}`)
}

interface Circumstances {
  readonly isGiven: (option: string) => boolean
  readonly target: Target
}

export function profileCommand(options: ProfileOptions, self: Command): void {
  const isGiven = (option: string): boolean => self.getOptionValueSource(option) === 'cli'
  const { check: checked, format, output } = options
  const target =
    format === 'spo' && !isGiven('runtime') ? podTarget : targets.find(({ name }) => name === options.runtime)!
  if (checked !== undefined) {
    const others = self.options.filter(
      (option) => !CHECKS.has(option.attributeName()) && isGiven(option.attributeName()),
    )
    checkUsage(
      others.length === 0,
      `Cannot use ${others[0]?.long} with --check: --check makes no profile; leave it out`,
    )
    const readers = isGiven('runtime') ? [target] : targets
    asAnswer(() => check(checked, readers, options))
    return
  }
  checkCombination(options, { isGiven, target })
  const wanted = wantedPolicy(options)
  const { text, configuration = '' } = makeProfile(wanted, {
    ...options,
    ...(format === 'spo' ? { base: options.base ?? podBase, objectName: options.name ?? 'intercede' } : {}),
    target: format === 'lxc' ? undefined : target,
  })
  if (output !== undefined) writeProfile(text, output)
  if (format === 'spo')
    say(`every node must have the socket ${OPERATOR_LISTENER}: the DaemonSet of deploy/kubernetes/ puts it there`)
  else for (const remark of wanted.ineffective) say(remark)
  printAtOnce(output === undefined ? text : configuration)
}

/** The options that --check takes. */
const CHECKS: ReadonlySet<string> = new Set(['check', 'runtime', 'daemonConfig', 'user'])

/** Where the profiles are that metadata names. */
interface ConfigOptions {
  readonly daemonConfig?: string | undefined
  readonly user?: boolean | undefined
}

/** Returns why the daemon would refuse a container with this metadata; it may be the daemon of another machine. */
function flaw(metadata: string, config: Config | undefined): string | undefined {
  try {
    if (config) resolve(config, { metadata }, deviceNames)
    else parsePolicy(parseLines(metadata).entries, deviceNames)
    return undefined
  } catch (error) {
    if (error instanceof PolicyError) return error.message
    throw error
  }
}

/** Reads the configuration if it is there. @throws {Error} if one that was asked for is not */
function configuration({ daemonConfig, user = false }: ConfigOptions): Config | undefined {
  const file = daemonConfig ?? configFile(user)
  return daemonConfig !== undefined || existsSync(file) ? readConfiguration(file) : undefined
}

function unknownProfile(metadata: string, options: ConfigOptions): readonly LintFinding[] {
  const { profile } = parseLines(metadata)
  if (!profile) return []
  const file = JSON.stringify(options.daemonConfig ?? configFile(options.user ?? false))
  const says = `it names the profile ${JSON.stringify(profile.name)}, and there is no configuration ${file} that could have it`
  return [{ is: 'unwise', says }]
}

/** Returns what is wrong or unwise in the policy of a profile, of which runtimes read nothing. */
function lintMetadata(
  { listenerMetadata = '', syscalls = [] }: OciSeccomp,
  options: ConfigOptions,
): readonly LintFinding[] {
  const config = configuration(options)
  const wrong = flaw(listenerMetadata, config)
  if (wrong !== undefined) return [{ is: 'wrong', says: `its listenerMetadata is no policy: ${wrong}` }]
  if (listenerMetadata.trim() !== '') return config ? [] : unknownProfile(listenerMetadata, options)
  if (!syscalls.some(({ action }) => action === NOTIFY)) return []
  return [
    {
      is: 'unwise',
      says: "it has no listenerMetadata: what it traps is served only as the default of the daemon's configuration says",
    },
  ]
}
