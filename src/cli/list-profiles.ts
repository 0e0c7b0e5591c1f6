import { type Asked, printOffers } from './completion.ts'
import { configFileIfThere } from './config-file.ts'
import { readConfiguration } from './daemon-config.ts'

/** Prints the names of the profiles of the daemon's configuration that a shell may offer. */
export const listProfiles = (asked: Asked): void =>
  printOffers(asked, () => {
    const file = asked.daemonConfig ?? configFileIfThere(asked.user ?? false)
    if (file === undefined) return []
    const { profiles } = readConfiguration(file)
    return [...profiles].map(([name, keys]) => [name, keys.map(([key, text]) => `${key}=${text}`).join(', ')])
  })
