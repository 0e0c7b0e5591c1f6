import { readFileSync } from 'node:fs'
import { digest } from './digest.ts'

const read = (): string => readFileSync(new URL('../build-id', import.meta.url), 'latin1').trim()

/**
 * The digest of the build from which this process was loaded. A thread or helper starts later, when the files may have
 * been replaced: it compares its own digest with the one that it is given, and refuses to work for another build.
 */
export const build = read()

/** Checks the build of this process. @throws {Error} if `expected` is another build */
export function requireBuild(expected: string | undefined): void {
  if (expected !== build) refuse(expected, build)
}

/** Checks, before a thread or helper is started, that it will not refuse. @throws {Error} if all files were replaced */
export function requireOwnFiles(): void {
  const now = buildNow()
  if (now !== undefined && now !== build && now === digest()) refuse(build, now)
}

function refuse(build: string | undefined, now: string): never {
  throw new Error(`Cannot serve build ${build ?? '(none)'}: the files are now of build ${now}; restart intercede`)
}

/** Returns the build of the present files; undefined while they are being replaced. */
export function buildNow(): string | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

/** Checks that all files are of this build. @throws {Error} if a file is missing, or is of another build */
export function requireWhole(): void {
  if (digest() !== build) throw new Error(`Cannot serve: the files are not all of build ${build}`)
}
