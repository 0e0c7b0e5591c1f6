import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Cap, capabilities, capMask } from '../../abi/credentials.ts'
import { statusMask } from '../../kernel/procfs/status.ts'
import { ociRuntimes } from '../known/index.ts'
import { type OciRuntime, which } from '../runtime.ts'

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

/** Returns how many files each process may open at most, whatever soft limit it has: Node raises ours to this one. */
export const openFilesLimit = (limits = readFileSync('/proc/self/limits', 'utf8')): number =>
  Number(/^Max open files +\S+ +(\d+)/m.exec(limits)![1])

interface LogLine {
  readonly level: string
  readonly msg: string
}

/** Returns the errors in a runtime's log, which may just be being written. */
export const errorsIn = (log: string): readonly string[] =>
  log
    .split('\n')
    .filter((line) => /^\{.*\}$/.test(line))
    .map((line) => JSON.parse(line) as LogLine)
    .filter(({ level }) => level === 'error')
    .map(({ msg }) => msg)

/** A runtime names the first directory on the way that is missing. */
function remedyFor(errors: string, workdir = '/'): string {
  const [, first = ''] = workdir.split('/')
  if (first !== '' && errors.includes(`/${first}`)) return 'name a --workdir that the container has'
  // Without that, it is the directory in which "run" was started.
  if (/\b(chdir|cwd)\b/.test(errors)) return 'name a --workdir that the command may search'
  return '"intercede doctor" says what this machine lacks'
}

interface Asked {
  readonly command: readonly string[]
  /** The directory in which the runtime may have failed to start the command. */
  readonly workdir?: string | undefined
}

/** A command that cannot be executed, as podman ends with it. */
class UnexecutedCommand extends Error {
  override readonly name = 'UnexecutedCommand'
  readonly exitCode: number

  constructor(exitCode: number, why: string, { command: [program] }: Asked) {
    const remedy = exitCode === MISSING ? 'that the container has' : 'that the container may execute'
    super(`Cannot execute ${JSON.stringify(program)}: ${why}; name a program ${remedy}`)
    this.exitCode = exitCode
  }
}

const [REFUSED, MISSING] = [126, 127]

/** @throws {UnexecutedCommand} if the init has said why it could not execute the command, and its status says so too */
export function mustHaveStarted(status: number, ofInit: string | undefined, asked: Asked): void {
  if (ofInit !== undefined && (status === REFUSED || status === MISSING))
    throw new UnexecutedCommand(status, ofInit, asked)
}

/**
 * Returns the exit status of `run` when the runtime ended with `status`. Runtimes return 1 both for a command that
 * ended with 1 and for their own failure; only the latter leaves an error in their log.
 *
 * @throws {Error} if the runtime failed
 */
export function exitStatus(
  status: number,
  log: string,
  { failures, name }: Pick<OciRuntime, 'failures' | 'name'>,
  asked: Asked,
): number {
  const errors = errorsIn(log).join(', ')
  if (errors === '' || status !== 1) return status
  const found = failures.find(([text]) => text.test(errors))?.[1]
  if (found !== undefined) throw new UnexecutedCommand(found, `${name} says: ${errors}`, asked)
  throw new Error(`Cannot start the command: ${name} says: ${errors}; ${remedyFor(errors, asked.workdir)}`)
}

/** Interval of polling in milliseconds: short beside the 20 ms that a runtime takes until it sends. */
const POLL_MS = 2

/** Calls `ask` repeatedly until it returns a value or the runtime has ended. */
export async function pollUntil<T>(ask: () => T | undefined, ended: () => boolean): Promise<T | undefined> {
  for (;;) {
    const isLast = ended()
    const answer = ask()
    if (answer !== undefined || isLast) return answer
    await sleep(POLL_MS)
  }
}
