import { readFileSync } from 'node:fs'
import { release } from 'node:os'
import { deviceNames } from '../kernel/device-names.ts'
import { orElse } from '../kernel/error.ts'
import type { Config } from '../policy/config.ts'
import { ineffectiveKeys, unclaimedDevices, unknownFileSystems } from '../policy/ineffective.ts'
import { resolve } from '../policy/resolve.ts'
import { clamped, type Settings } from '../policy/settings.ts'

/** Returns the file systems that the kernel has or can load; empty if that cannot be found out. */
export function knownFileSystems(): ReadonlySet<string> {
  const listed = read('/proc/filesystems')
  if (listed === '') return new Set()
  // The kernel requests the module by this alias: linux/fs/filesystems.c get_fs_type()
  const aliases = read(`/lib/modules/${release()}/modules.alias`)
  const names = [...listed.matchAll(/\t(\S+)$/gm), ...aliases.matchAll(/^alias fs-(\S+) /gm)]
  return new Set(names.map(([, name]) => name!))
}

const read = (path: string): string => orElse('', () => readFileSync(path, 'latin1'))

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
