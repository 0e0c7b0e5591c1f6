import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { orElse } from '../kernel/error.ts'

const root = new URL('../', import.meta.url)

/** Returns the digest of all files that were built: 16 hexadecimal digits. */
function digest(): string {
  const hash = createHash('sha256')
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js'))
  for (const name of files.sort()) hash.update(name).update(readFileSync(new URL(name, root)))
  return hash.digest('hex').slice(0, 16)
}

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
export const buildNow = (): string | undefined => orElse(undefined, read)

/** Checks that all files are of this build. @throws {Error} if a file is missing, or is of another build */
export function requireWhole(): void {
  if (digest() !== build) throw new Error(`Cannot serve: the files are not all of build ${build}`)
}
