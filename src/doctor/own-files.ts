import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, realpathSync, type Stats } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PROC_USER_INIT_INO } from '../abi/process.ts'
import { S_ISVTX, S_IWGRP, S_IWOTH } from '../abi/stat.ts'
import { NODE } from '../processes/program-files.ts'

/** The package of koffi's native code; it does not exist if the code was built in koffi's own package. */
const NATIVE = `@koromix/koffi-${process.platform}-${process.arch}`
/** Files of a package that Node can load, which are few of all its files. */
const LOADED = /\.([cm]?js|json|node)$/
/** Mode bits: writing by the group and by others, and the sticky bit. */
const MAX_LINKS = 40

/**
 * Returns the numbers of root: 0 and, in another user namespace, the overflow uid, as which unmapped users such as the
 * host's root show.
 */
export function rootOwners(): ReadonlySet<number> {
  const isHosts = readlinkSync('/proc/self/ns/user') === `user:[${PROC_USER_INIT_INO}]`
  return new Set(isHosts ? [0] : [0, Number(readFileSync('/proc/sys/kernel/overflowuid', 'latin1'))])
}

/** Returns the acceptable owners of a file: root and the user who runs us. */
export const owners = (): ReadonlySet<number> => new Set([...rootOwners(), process.geteuid!()])

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const DIST = join(ROOT, 'dist')

/** Returns where Node finds a package, as an unresolved path, for it may be a link. */
const packageFrom = (file: string, name: string): string | undefined =>
  createRequire(file)
    .resolve.paths(name)
    ?.map((directory) => join(directory, name))
    .find((path) => existsSync(path))

/** Returns the directories of the packages that we load. @throws {Error} if a package is missing */
function packages(): readonly string[] {
  const koffi = packageFrom(import.meta.url, 'koffi')
  if (koffi === undefined) throw new Error('package koffi is not there')
  const native = packageFrom(join(realpathSync(koffi), 'package.json'), NATIVE)
  return native === undefined ? [koffi] : [koffi, native]
}

/** Returns everything below a directory; of the files only those that `isWanted`. */
const below = (directory: string, isWanted: (name: string) => boolean): readonly string[] =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isFile() || isWanted(entry.name))
    .map(({ parentPath, name }) => join(parentPath, name))

/** Collects all files, directories and links that lie on the paths to some files. */
class PathCollector {
  readonly all = new Map<string, Stats>()

  /**
   * Adds a path, which it walks as the kernel does (fs/namei.c link_path_walk()): the owner of a link, or a user who
   * may write to a directory on the way, chooses where the path ends.
   *
   * @returns the path without links
   */
  add(path: string): string {
    const left = (isAbsolute(path) ? path : `${process.cwd()}/${path}`).split('/').reverse()
    let at = '/'
    this.#look(at)
    for (let links = 0; left.length > 0; ) {
      const name = left.pop()!
      // This is right for `..` too, since no component of `at` is a link.
      const next = join(at, name)
      if (!this.#look(next).isSymbolicLink()) {
        at = next
        continue
      }
      if (++links > MAX_LINKS) throw new Error(`${JSON.stringify(path)} leads over too many links`)
      const target = readlinkSync(next)
      if (isAbsolute(target)) at = '/'
      left.push(...target.split('/').reverse())
    }
    return at
  }

  /** Adds what a directory holds whose own path was added, without links: only a link leads elsewhere. */
  addBelow(path: string): void {
    if (this.#look(path).isSymbolicLink()) this.add(path)
  }

  /** Calls lstat(2) once for each path, since nearly all directories are on the way to many files. */
  #look(path: string): Stats {
    const stat = this.all.get(path) ?? lstatSync(path)
    this.all.set(path, stat)
    return stat
  }
}

/** Returns everything on the paths to what a start reads or executes: the program, and the packages that it needs. */
function checkedPaths(given: readonly string[]): ReadonlyMap<string, Stats> {
  const found = new PathCollector()
  const started = process.argv[1] === undefined ? [] : [process.argv[1]]
  for (const path of [NODE, ...started, ...[join(ROOT, 'package.json'), join(ROOT, 'bin/package.json')], ...given])
    found.add(path)
  const built = below(found.add(DIST), (name) => !/\.(d\.ts|map)$/.test(name))
  const loaded = packages().flatMap((path) => below(found.add(path), (name) => LOADED.test(name)))
  for (const path of [...built, ...loaded]) found.addBelow(path)
  return found.all
}

/**
 * Returns what is wrong with a file, and the remedy. A directory with the sticky bit may be writable, as sudo and ssh
 * judge too, since other users cannot rename what is in it.
 */
function flaw(path: string, stat: Stats, goodOwners: ReadonlySet<number>): string | undefined {
  const quoted = JSON.stringify(path)
  if (!goodOwners.has(stat.uid)) {
    const own = stat.isSymbolicLink() ? 'chown -h' : 'chown'
    return `${quoted} belongs to user ${stat.uid}: ${own} root ${quoted}`
  }
  if (stat.isSymbolicLink() || (stat.isDirectory() && (stat.mode & S_ISVTX) !== 0)) return undefined
  if ((stat.mode & (S_IWGRP | S_IWOTH)) === 0) return undefined
  const who = (stat.mode & S_IWOTH) === 0 ? 'its group' : 'everybody'
  return `${quoted} can be written by ${who}: chmod go-w ${quoted}`
}

/** Number of flaws that are shown; most often one command mends all. */
const SHOWN = 3

function brief(flaws: readonly string[]): string {
  const more = flaws.length > SHOWN ? `; and ${flaws.length - SHOWN} more` : ''
  return `${flaws.slice(0, SHOWN).join('; ')}${more}`
}

/**
 * Looks for files and directories through which a user other than root, or than the user who runs intercede, could
 * make it do anything: it is whatever program its files are.
 *
 * @param given more files, such as the configuration
 * @returns what is wrong, also if that cannot be found out: no descriptor is free, or the files are being replaced
 */
export function openToOthers(given: readonly string[] = []): string | undefined {
  try {
    const goodOwners = owners()
    const found = [...checkedPaths(given)].sort(([one], [other]) => (one < other ? -1 : 1))
    const flaws = found.flatMap(([path, stat]) => flaw(path, stat, goodOwners) ?? [])
    return flaws.length === 0 ? undefined : `others could change what it runs: ${brief(flaws)}`
  } catch (error) {
    return `it cannot find out who may change the files that it runs: ${(error as Error).message}`
  }
}

/** Returns through what another user could exchange what is in these directories; undefined if nobody can. */
export function openDirectories(directories: readonly string[]): string | undefined {
  const found = new PathCollector()
  for (const directory of directories) found.add(firstThere(directory))
  const goodOwners = owners()
  const flaws = [...found.all].flatMap(([path, stat]) => flaw(path, stat, goodOwners) ?? [])
  return flaws.length === 0 ? undefined : brief(flaws)
}

/** Requires that no other user can exchange what is in the directories of our sockets. @throws {Error} if one can */
export function requireSafeDirectories(directories: readonly string[]): void {
  const wrong = openDirectories(directories)
  if (wrong !== undefined) throw new Error(`Cannot listen, because other users could replace the sockets: ${wrong}`)
}

/** Returns a directory, or the one in which it will be made. */
export function firstThere(directory: string): string {
  let there = resolve(directory)
  while (!existsSync(there)) there = dirname(there)
  return there
}

/** Requires that no other user can change our files. @throws {Error} if one can */
export function requireSafeFiles(given: readonly string[] = []): void {
  const wrong = openToOthers(given)
  if (wrong !== undefined) throw new Error(`Cannot serve, because ${wrong}`)
}
