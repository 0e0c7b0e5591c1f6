import { explain, why } from '../calls/reason.ts'
import { ineffectiveHere } from '../keeper/ineffective-keys.ts'
import { deviceNames } from '../kernel/device-names.ts'
import { type Config, effectiveLimits } from '../policy/config.ts'
import { resolve } from '../policy/resolve.ts'
import { forUser } from '../policy/rootless.ts'
import { effective } from '../policy/settings.ts'

/** Lists every key with its effective value and origin, for a container with this metadata. */
function keysOf(config: Config, metadata: string, user: boolean): readonly string[] {
  const { settings, policy } = resolve(config, { metadata }, deviceNames)
  const keys = effective(settings).map(({ key, text, origin }) => `  ${key}: ${JSON.stringify(text)} # ${origin}`)
  return [
    ...keys,
    ...ineffectiveHere(settings).map((text) => `  # ${text}`),
    ...(user ? forUser(policy).withheld : []).map(
      (key) => `  # ${key} is left to the kernel: ${explain(why('userDaemon')).says}`,
    ),
  ]
}

const list = (names: ReadonlySet<string>): string => [...names].join(', ') || 'none'

const limitsOf = ({ limits }: Config): string =>
  Object.entries(effectiveLimits(limits))
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')

/**
 * Describes a configuration: its keys for a container without a profile, for each profile, and for annotations.
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
    `annotations may choose the profiles: ${list(config.annotations.profiles)}`,
    `limits: ${limitsOf(config)}`,
    `annotations may set these keys, and all others only to less: ${list(config.annotations.raise)}`,
  ]
}
