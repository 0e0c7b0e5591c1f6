import { readFileSync } from 'node:fs'
import { digest } from './digest.ts'

const read = (): string => readFileSync(new URL('../build-id', import.meta.url), 'latin1').trim()

/**
 * The digest of the build that this process was loaded from. A thread or a helper that starts later, when the files may
 * have been replaced, compares its own with the one that it is given and refuses to work for another.
 */
export const build = read()

/** @throws {Error} if `expected` is another build */
export function requireBuild(expected: string | undefined): void {
  if (expected !== build) refuse(expected, build)
}

/** To be called before a thread or a helper is started. @throws {Error} if it would refuse, because all files were replaced */
export function requireOwnFiles(): void {
  const now = buildNow()
  if (now !== undefined && now !== build && now === digest()) refuse(build, now)
}

function refuse(build: string | undefined, now: string): never {
  throw new Error(`Cannot serve build ${build ?? '(none)'}: the files are now of build ${now}; restart intercede`)
}

/** Of which build the files are now; undefined while they are being replaced. */
export function buildNow(): string | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

/** @throws {Error} if a file is not there, or of another build than the rest */
export function requireWhole(): void {
  if (digest() !== build) throw new Error(`Cannot serve: the files are not all of build ${build}`)
}
