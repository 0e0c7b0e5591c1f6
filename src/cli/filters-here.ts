import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { readProfile } from '../filter/read.ts'
import { deviceNames } from '../kernel/device-names.ts'
import type { Config } from '../policy/config.ts'
import { fullName } from '../policy/key.ts'
import { keyNames } from '../policy/key-names.ts'
import { resolve } from '../policy/resolve.ts'
import { serves } from '../policy/serves.ts'
import { runtimes } from '../runtimes/known/index.ts'
import { readText } from '../runtimes/text-file.ts'
import { notifying } from '../runtimes/trapped-calls.ts'
import { callsOf, untrapped } from '../syscalls/index.ts'

/**
 * Returns the directories in which `flags --write` puts the profiles of runtimes. Policies of LXC are left out, since
 * they do not say which keys they are for.
 */
const directoriesFor = (user: boolean): ReadonlySet<string> =>
  new Set(
    runtimes.flatMap(({ instructions }) => {
      const directory = user ? instructions?.userDirectory?.() : instructions?.directory
      return directory === undefined ? [] : [directory]
    }),
  )

function filesIn(directory: string): readonly string[] {
  try {
    const names = readdirSync(directory).filter((name) => name.endsWith('.json'))
    return names.sort().map((name) => join(directory, name))
  } catch {
    return []
  }
}

/** Says of each key that is on for containers with a profile whether the filter of the profile traps it. */
function describeFilter(config: Config, file: string): readonly string[] {
  const { listenerMetadata: metadata, syscalls = [] } = readProfile(readText(file))
  // It is the profile of somebody else, or no profile.
  if (metadata === undefined) return []
  const traps = notifying(syscalls)
  const { policy, settings } = resolve(config, { metadata }, deviceNames)
  const on = keyNames.filter((name) => callsOf(name).length > 0 && serves(policy, name))
  return on.map((name) => {
    const missing = untrapped(policy, name, traps)
    const isTrapped = missing.length === 0 ? 'trapped' : `not trapped: ${missing.join(', ')}`
    return `  # ${fullName(name)} (${settings.get(name)!.origin}): ${isTrapped}`
  })
}

function describeOrSay(config: Config, file: string): readonly string[] {
  try {
    return describeFilter(config, file)
  } catch (error) {
    return [`  # ${(error as Error).message}`]
  }
}

/** Describes the filters of this machine: which keys that are on for their containers they trap. */
export const describeFilters = (config: Config, user: boolean): readonly string[] =>
  [...directoriesFor(user)].flatMap(filesIn).flatMap((file) => {
    const lines = describeOrSay(config, file)
    return lines.length > 0 ? [`filter ${JSON.stringify(file)}:`, ...lines] : []
  })
