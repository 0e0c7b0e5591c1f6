import { explain, why } from '../calls/reason.ts'
import { trappedBy } from '../calls/rule.ts'
import { ineffectiveUnless } from '../keeper/ineffective-keys.ts'
import { deviceNames } from '../kernel/device-names.ts'
import type { Config } from '../policy/config.ts'
import { fullName } from '../policy/key.ts'
import { effectiveLimits } from '../policy/limits.ts'
import type { Policy } from '../policy/policy.ts'
import { resolve } from '../policy/resolve.ts'
import { forUser } from '../policy/rootless.ts'
import { effective } from '../policy/settings.ts'
import { rulesFor } from '../syscalls/index.ts'
import { describeFilters } from './filters-here.ts'

/** Lists every key with its effective value and origin, for a container with this metadata. */
function keysOf(config: Config, metadata: string, user: boolean): readonly string[] {
  const { settings, policy } = resolve(config, { metadata }, deviceNames)
  const keys = effective(settings).map(({ key, text, origin }) => `  ${key}: ${JSON.stringify(text)} # ${origin}`)
  return [
    ...keys,
    ...ineffectiveUnless(settings).map((text) => `  # ${text}`),
    ...trappedFor(policy),
    ...(user ? forUser(policy).withheld : []).map(
      (key) => `  # ${key} is left to the kernel: ${explain(why('userDaemon')).says}`,
    ),
  ]
}

/** A key does nothing in a container whose filter does not trap its calls, whoever gives the key. */
function trappedFor(policy: Policy): readonly string[] {
  const names = trappedBy(rulesFor(policy))
  return names.size > 0 ? [`  # served where the filter of a container traps: ${[...names].join(', ')}`] : []
}

const list = (names: ReadonlySet<string>): string => [...names].join(', ') || 'none'

const limitsOf = ({ limits }: Config): string =>
  Object.entries(effectiveLimits(limits))
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')

const ceilingsOf = ({ ceiling }: Config): readonly string[] =>
  ceiling.size === 0
    ? ['ceiling: none']
    : ['ceiling:', ...[...ceiling].map(([name, text]) => `  ${fullName(name)}: ${JSON.stringify(text)}`)]

/**
 * Describes a configuration: its keys for a container without a profile, for each profile, and for annotations; and
 * which of them the filters of this machine trap.
 *
 * @param user whether the configuration is that of `serve --user`
 */
export function describeConfig(config: Config, user: boolean): readonly string[] {
  return [
    'default:',
    ...keysOf(config, '', user),
    ...[...config.profiles.keys()].flatMap((name) => [
      `profile ${JSON.stringify(name)}:`,
      ...keysOf(config, `profile=${name}`, user),
    ]),
    ...ceilingsOf(config),
    `annotations may choose the profiles: ${list(config.annotations.profiles)}`,
    ...describeFilters(config, user),
    `limits: ${limitsOf(config)}`,
    `reload: ${config.reload}`,
    `annotations may set these keys, and all others only to less: ${list(config.annotations.raise)}`,
  ]
}
