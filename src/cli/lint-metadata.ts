import { existsSync } from 'node:fs'
import type { LintFinding } from '../filter/lint.ts'
import { NOTIFY, type OciSeccomp } from '../filter/oci.ts'
import { deviceNames } from '../kernel/device-names.ts'
import type { Config } from '../policy/config.ts'
import { PolicyError } from '../policy/error.ts'
import { parseLines } from '../policy/key-value-lines.ts'
import { resolve } from '../policy/resolve.ts'
import { parsePolicy } from '../policy/settings.ts'
import { configFile } from './config-file.ts'
import { readConfiguration } from './daemon-config.ts'

/** Where the profiles are that metadata names. */
export interface ConfigOptions {
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
export function lintMetadata(
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
