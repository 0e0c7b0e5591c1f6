import { readFileSync } from 'node:fs'

/**
 * The digest of the build that this process was loaded from. A thread or a helper that starts later, when the files may
 * have been replaced, compares its own with the one that it is given and refuses to work for another.
 */
export const build = readFileSync(new URL('../build-id', import.meta.url), 'latin1').trim()

/** @throws {Error} if `expected` is another build */
export function requireBuild(expected: string | undefined): void {
  if (expected === build) return
  throw new Error(`Cannot serve build ${expected ?? '(none)'}: the files are now of build ${build}; restart intercede`)
}
