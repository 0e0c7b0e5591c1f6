import { readFileSync } from 'node:fs'
import { type Cap, capabilities, capMask } from '../../abi/capability.ts'
import { statusMask } from '../../kernel/procfs/status.ts'
import { ociRuntimes } from '../known/index.ts'
import type { OciRuntime } from '../runtime.ts'
import { which } from '../which.ts'

/** A runtime that is installed on this machine. */
export interface FoundRuntime {
  readonly known: OciRuntime
  readonly path: string
}

/**
 * Returns the OCI runtime to use.
 *
 * @throws {Error} if the wanted runtime, or any at all, is not installed
 */
export function findRuntime(wanted?: OciRuntime): FoundRuntime {
  const candidates = wanted ? [wanted] : ociRuntimes
  for (const known of candidates) {
    const path = which(known.installed.program)
    if (path) return { known, path }
  }
  const names = candidates.map(({ name }) => name).join(' or ')
  const packages = candidates[0]!.installed.packages.join(' ')
  throw new Error(`Cannot start a container: no ${names} found: apt-get install ${packages}`)
}

/** Returns the capabilities in our bounding set; a runtime fails if it is asked for others. */
export function ownBoundingSet(status = readFileSync('/proc/self/status', 'utf8')): Cap[] {
  const mask = statusMask(status, 'CapBnd')
  return capabilities.filter((cap) => (mask & capMask(cap)) !== 0n)
}

interface LogLine {
  readonly level: string
  readonly msg: string
}

/** Returns the errors in a runtime's log. */
const errorsIn = (log: string): readonly string[] =>
  log
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as LogLine)
    .filter(({ level }) => level === 'error')
    .map(({ msg }) => msg)

/** A runtime names the first directory on the way that is missing. */
function remedyFor(errors: string, workdir = '/'): string {
  const [, first = ''] = workdir.split('/')
  if (first !== '' && errors.includes(`/${first}`)) return 'name a --workdir that the container has'
  return '"intercede doctor" says what this machine lacks'
}

/**
 * Returns the exit status of `run` when the runtime ended with `status`. Runtimes return 1 both for a command that
 * ended with 1 and for their own failure; only the latter leaves an error in their log.
 *
 * @param workdir the directory that was asked for, in which the runtime may have failed to start the command
 * @throws {Error} if the runtime failed otherwise than that it could not execute the command
 */
export function exitStatus(
  status: number,
  log: string,
  { failures, name }: Pick<OciRuntime, 'failures' | 'name'>,
  workdir?: string,
): number {
  const errors = errorsIn(log).join(', ')
  if (errors === '' || status !== 1) return status
  const found = failures.find(([text]) => text.test(errors))?.[1]
  if (found !== undefined) return found
  throw new Error(`Cannot start the command: ${name} says: ${errors}; ${remedyFor(errors, workdir)}`)
}
