import type { LintFinding } from '../filter/lint.ts'
import { NOTIFY, type OciSeccomp } from '../filter/oci.ts'
import { deviceNames } from '../kernel/device-names.ts'
import { PolicyError } from '../policy/error.ts'
import { parseLines } from '../policy/key-value-lines.ts'
import { parsePolicy } from '../policy/settings.ts'

/** Returns why the daemon would refuse a container with this metadata. */
function flaw(metadata: string): string | undefined {
  try {
    parsePolicy(parseLines(metadata).entries, deviceNames)
    return undefined
  } catch (error) {
    if (error instanceof PolicyError) return error.message
    throw error
  }
}

/** Returns what is wrong or unwise in the policy of a profile, of which runtimes read nothing. */
export function lintMetadata({ listenerMetadata = '', syscalls = [] }: OciSeccomp): readonly LintFinding[] {
  const wrong = flaw(listenerMetadata)
  if (wrong !== undefined) return [{ is: 'wrong', says: `its listenerMetadata is no policy: ${wrong}` }]
  if (listenerMetadata.trim() !== '' || !syscalls.some(({ action }) => action === NOTIFY)) return []
  return [
    {
      is: 'unwise',
      says: "it has no listenerMetadata: what it traps is served only as the default of the daemon's configuration says",
    },
  ]
}
