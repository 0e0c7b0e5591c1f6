import { readFileSync } from 'node:fs'
import { type Cap, capabilities, capMask } from '../../abi/capability.ts'
import { which } from '../which.ts'

export type RuntimeName = 'crun' | 'runc'

export interface Runtime {
  readonly name: RuntimeName
  readonly path: string
}

/** crun first: it starts in half the time and lets the kernel wait for our answer when a signal comes. */
const PREFERRED: readonly RuntimeName[] = ['crun', 'runc']

/**
 * The OCI runtime to use.
 *
 * @throws {Error} if the wanted one, or any, is not installed
 */
export function findRuntime(wanted?: RuntimeName): Runtime {
  const names = wanted ? [wanted] : PREFERRED
  for (const name of names) {
    const path = which(name)
    if (path) return { name, path }
  }
  throw new Error(`Cannot start a container: no ${names.join(' or ')} found: apt-get install ${names[0]}`)
}

/** The capabilities in our bounding set: a runtime fails if it is asked for one that the machine does not give. */
export function boundingCapabilities(status = readFileSync('/proc/self/status', 'utf8')): Cap[] {
  const mask = BigInt(`0x${/^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`)
  return capabilities.filter((cap) => (mask & capMask(cap)) !== 0n)
}

interface LogLine {
  readonly level: string
  readonly msg: string
}

/** The texts in which crun and runc say what podman's exit codes 126 and 127 stand for. */
const FAILURES: readonly (readonly [RegExp, number])[] = [
  [/executable file .*not found|exec.*no such file or directory/i, 127],
  [/exec: ".*": |not executable|not a regular file|exec format error/i, 126],
]

/**
 * The exit status of `run` when the runtime ended with `status`. Runtimes answer 1 both for a command that ended so and
 * for their own failure; only the latter leaves an error in their log.
 */
export function exitStatus(status: number, log: string): number {
  const errors = log
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as LogLine)
    .filter(({ level }) => level === 'error')
    .map(({ msg }) => msg)
    .join('\n')
  if (errors === '' || status !== 1) return status
  return FAILURES.find(([text]) => text.test(errors))?.[1] ?? 125
}
