import { deviceNames } from '../kernel/device-names.ts'
import type { Config } from '../policy/config.ts'
import { unknownFileSystems } from '../policy/file-systems.ts'
import { ineffectiveKeys } from '../policy/ineffective.ts'
import { resolve } from '../policy/resolve.ts'
import type { Settings } from '../policy/settings.ts'
import { unclaimedDevices } from '../policy/unclaimed.ts'
import { knownFileSystems } from './known-file-systems.ts'

/** Lists the given keys and values that do nothing on this machine now: a sentence with its remedy for each. */
export const ineffectiveHere = (settings: Settings): readonly string[] => [
  ...ineffectiveKeys(settings),
  ...unknownFileSystems(settings, knownFileSystems),
  ...unclaimedDevices(settings, deviceNames),
]

/** Lists the same for a configuration with all of its profiles, each sentence once. */
export function ineffectiveIn(config: Config): readonly string[] {
  const metadata = ['', ...[...config.profiles.keys()].map((name) => `profile=${name}`)]
  return [
    ...new Set(metadata.flatMap((text) => ineffectiveHere(resolve(config, { metadata: text }, deviceNames).settings))),
  ]
}
