import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Script } from 'node:vm'

export { flagsFor } from './program-flags.ts'

/**
 * Loads the bundles of the build, each with the code that V8 has made of it before, if that is there: most of what a
 * start costs beyond that of Node is to compile. `scripts/code-cache.js` makes these files, each for one version of
 * Node.
 *
 * Cached code is executed, so it is judged as the bundle is: it lies beside the bundle, where `serve` looks at all
 * files (doctor/own-files.ts), must have the owner of the bundle, and no variable of the environment leads elsewhere.
 * V8 refuses the code of another version or of other flags, and we refuse the code of another bundle: the bundle is
 * compiled then.
 */

type Wrapper = (exports: object, require: (id: string) => unknown, module: object, file: string, dist: string) => void

const DIST = dirname(dirname(fileURLToPath(import.meta.url)))
const HEAD = '(function (exports, require, module, __filename, __dirname) { '
const TAIL = '\n})'
const WRITABLE_BY_OTHERS = 0o022
const BUNDLE = /^\.\/([\w-]+)\.js$/

/** A bundle ends in a digest of itself, with which its cached code begins. */
export const DIGEST_LENGTH = 16
/** The directory of the code for this Node. */
export const CACHE: string = join(DIST, 'cache', `${process.version}-${process.arch}`)

const loaded = new Map<string, { readonly exports: object }>()
const fileOf = (name: string): string => join(DIST, `${name}.js`)
const outside = createRequire(fileOf('load'))

/** Modules that take a millisecond or more to load, of which a start may need nothing. */
const SLOW: ReadonlySet<string> = new Set([
  ...['child_process', 'crypto', 'net', 'stream/promises', 'v8'].map((name) => `node:${name}`),
  './yaml.js',
])

/** Returns a module that is loaded when something of it is used. */
function lazily(id: string): object {
  // What has been loaded before is found by its name.
  return new Proxy({}, { get: (_, name) => Reflect.get(now(id), name) })
}

/** The version of koffi whose native code is loaded directly. */
export const KOFFI = '3.3.4'

/** Returns where Node finds a package from a file, without its links. @throws {Error} if it is not there */
function packageFrom(from: NodeJS.Require, name: string): string {
  const places = from.resolve.paths(name) ?? []
  return realpathSync(places.map((place) => join(place, name)).find((path) => existsSync(path)) ?? name)
}

/**
 * Loads koffi's native code for this machine, which has all that kernel/libc.ts uses. What is around it in koffi's
 * packages takes 4 ms to find that file, for machines of all kinds.
 */
function koffi(): unknown {
  const module = { exports: { version: '' } }
  try {
    const own = createRequire(join(packageFrom(outside, 'koffi'), 'package.json'))
    const native = packageFrom(own, `@koromix/koffi-${process.platform}-${process.arch}`)
    process.dlopen(module, join(native, `${process.platform}_${process.arch}`, 'koffi.node'))
  } catch {
    // It is installed in another way.
  }
  return module.exports.version === KOFFI ? module.exports : outside('koffi')
}

/** Bundles require each other, modules of Node, and koffi. */
const inside = (id: string): unknown => (id === 'koffi' ? koffi() : SLOW.has(id) ? lazily(id) : now(id))

function now(id: string): object {
  const name = BUNDLE.exec(id)?.[1]
  return name === undefined ? outside(id) : loadPart(name)
}

/** Reads a bundle, which is ASCII. */
export const readPart = (name: string): string => readFileSync(fileOf(name), 'latin1')

export const compilePart = (name: string, text: string, cachedData?: Buffer): Script =>
  new Script(`${HEAD}${text}${TAIL}`, { filename: fileOf(name), ...(cachedData && { cachedData }) })

/** Runs a bundle, unless it was run before. @returns its exports */
export function loadPart(name: string): object {
  const known = loaded.get(name)
  if (known) return known.exports
  const module = { exports: {} }
  loaded.set(name, module)
  const text = readPart(name)
  const script = compilePart(name, text, cachedCode(name, text.slice(-DIGEST_LENGTH)))
  const run = script.runInThisContext() as Wrapper
  run(module.exports, inside, module, fileOf(name), DIST)
  return module.exports
}

function cachedCode(name: string, digest: string): Buffer | undefined {
  const path = join(CACHE, name)
  try {
    const [bundle, code] = [statSync(fileOf(name)), statSync(path)]
    if (code.uid !== bundle.uid || code.mtimeMs < bundle.mtimeMs || (code.mode & WRITABLE_BY_OTHERS) !== 0)
      return undefined
    const bytes = readFileSync(path)
    return bytes.toString('latin1', 0, DIGEST_LENGTH) === digest ? bytes.subarray(DIGEST_LENGTH) : undefined
  } catch {
    return undefined
  }
}
