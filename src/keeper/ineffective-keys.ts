import { deviceNames } from '../kernel/device-names.ts'
import { clamped } from '../policy/ceiling.ts'
import type { Config } from '../policy/config.ts'
import { unknownFileSystems } from '../policy/file-systems.ts'
import { ineffectiveKeys } from '../policy/ineffective.ts'
import { resolve } from '../policy/resolve.ts'
import type { Settings } from '../policy/settings.ts'
import { unclaimedDevices } from '../policy/unclaimed.ts'
import { knownFileSystems } from './known-file-systems.ts'

/** Lists the values that have no effect on this machine now: a sentence with its remedy for each. */
const unknownHere = (settings: Settings): readonly string[] => [
  ...unknownFileSystems(settings, knownFileSystems),
  ...unclaimedDevices(settings, deviceNames),
]

/** Lists the given keys and values that have no effect on this machine now: a sentence with its remedy for each. */
export const ineffectiveHere = (settings: Settings): readonly string[] => [
  ...ineffectiveKeys(settings),
  ...unknownHere(settings),
]

/**
 * Lists the same for a part of a configuration. A container's own metadata may have a key that another key needs, so a
 * missing key is only a condition.
 */
export const ineffectiveUnless = (settings: Settings): readonly string[] => [
  ...ineffectiveKeys(settings).map((text) => `${text}, which only the metadata of a container can say here`),
  ...unknownHere(settings),
  ...clamped(settings),
]

/**
 * Lists, each once, the values in a configuration and all its profiles that have no effect on this machine now, or are
 * above their ceiling.
 */
export function ineffectiveIn(config: Config): readonly string[] {
  const metadata = ['', ...[...config.profiles.keys()].map((name) => `profile=${name}`)]
  return [
    ...new Set(
      metadata
        .map((text) => resolve(config, { metadata: text }, deviceNames).settings)
        .flatMap((settings) => [...unknownHere(settings), ...clamped(settings)]),
    ),
  ]
}
