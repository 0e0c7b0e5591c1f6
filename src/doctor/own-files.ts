import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, realpathSync, type Stats } from 'node:fs'
import { createRequire } from 'node:module'
import { isAbsolute, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PROC_USER_INIT_INO } from '../abi/namespace.ts'
import { S_ISVTX, S_IWGRP, S_IWOTH } from '../abi/stat.ts'

const PACKAGES = ['commander', 'koffi', 'valibot', 'yaml']
/** The package of koffi's native code, which is not there if that was built where koffi is. */
const NATIVE = `@koromix/koffi-${process.platform}-${process.arch}`
/** What Node can load of a package: far from all of it. */
const LOADED = /\.([cm]?js|json|node)$/
/** As the kernel: include/linux/namei.h MAXSYMLINKS. */
const MAX_LINKS = 40

/** For whom a file is good enough: root, who it is run by, and whom this user namespace does not know. */
function owners(): ReadonlySet<number> {
  const all = [0, process.geteuid!()]
  const isHosts = readlinkSync('/proc/self/ns/user') === `user:[${PROC_USER_INIT_INO}]`
  return new Set(isHosts ? all : [...all, Number(readFileSync('/proc/sys/kernel/overflowuid', 'latin1'))])
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const DIST = join(ROOT, 'dist')

/** Where Node finds a package: as it is written, for it may be a link. */
const packageFrom = (file: string, name: string): string | undefined =>
  createRequire(file)
    .resolve.paths(name)
    ?.map((directory) => join(directory, name))
    .find((path) => existsSync(path))

/** @throws {Error} if one is not there */
function packages(): readonly string[] {
  const found = PACKAGES.map((name) => {
    const path = packageFrom(import.meta.url, name)
    if (path === undefined) throw new Error(`package ${name} is not there`)
    return path
  })
  const koffi = realpathSync(found[PACKAGES.indexOf('koffi')]!)
  const native = packageFrom(join(koffi, 'package.json'), NATIVE)
  return native === undefined ? found : [...found, native]
}

/** What is below a directory, of its files only some. */
const below = (directory: string, isWanted: (name: string) => boolean): readonly string[] =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isFile() || isWanted(entry.name))
    .map(({ parentPath, name }) => join(parentPath, name))

/** All files and directories, and links, on the ways to some files. */
class Ways {
  readonly all = new Map<string, Stats>()

  /**
   * Goes as the kernel does, fs/namei.c link_path_walk(): who owns a link, or may write in a directory between two of
   * them, chooses where the way ends.
   *
   * @returns the path without links
   */
  add(path: string): string {
    const left = (isAbsolute(path) ? path : `${process.cwd()}/${path}`).split('/').reverse()
    let at = '/'
    this.#look(at)
    for (let links = 0; left.length > 0; ) {
      const name = left.pop()!
      // With `..` too, since no directory in `at` is a link.
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

  /** Each is looked at once: nearly all directories are on the way to many files. */
  #look(path: string): Stats {
    const stat = this.all.get(path) ?? lstatSync(path)
    this.all.set(path, stat)
    return stat
  }
}

/** The ways to what every start reads or runs: the program, and what it needs of others. */
function ways(given: readonly string[]): ReadonlyMap<string, Stats> {
  const found = new Ways()
  const started = process.argv[1] === undefined ? [] : [process.argv[1]]
  for (const path of [process.execPath, ...started, join(ROOT, 'package.json'), ...given]) found.add(path)
  const built = below(found.add(DIST), (name) => !/\.(d\.ts|map)$/.test(name))
  const loaded = packages().flatMap((path) => below(found.add(path), (name) => LOADED.test(name)))
  for (const path of [...built, ...loaded]) found.add(path)
  return found.all
}

/** What is wrong with one, and what to do; as sudo and ssh judge, who may write in a directory with the sticky bit renames nothing there. */
function flaw(path: string, stat: Stats, good: ReadonlySet<number>): string | undefined {
  const quoted = JSON.stringify(path)
  if (!good.has(stat.uid)) {
    const own = stat.isSymbolicLink() ? 'chown -h' : 'chown'
    return `${quoted} belongs to user ${stat.uid}: ${own} root ${quoted}`
  }
  if (stat.isSymbolicLink() || (stat.isDirectory() && (stat.mode & S_ISVTX) !== 0)) return undefined
  if ((stat.mode & (S_IWGRP | S_IWOTH)) === 0) return undefined
  const who = (stat.mode & S_IWOTH) === 0 ? 'its group' : 'everybody'
  return `${quoted} can be written by ${who}: chmod go-w ${quoted}`
}

/** Of many the first ones: most often one command mends all. */
const SHOWN = 3

function summary(flaws: readonly string[]): string {
  const more = flaws.length > SHOWN ? `; and ${flaws.length - SHOWN} more` : ''
  return `others could change what it runs: ${flaws.slice(0, SHOWN).join('; ')}${more}`
}

/**
 * Looks for files and directories by which somebody other than root, or who runs it, could make intercede do anything: it
 * becomes whatever its files are.
 *
 * @param given more files, such as the configuration
 * @returns what is wrong, also that it cannot be known, when no descriptor is free or the files are being replaced
 */
export function openToOthers(given: readonly string[] = []): string | undefined {
  try {
    const good = owners()
    const found = [...ways(given)].sort(([one], [other]) => (one < other ? -1 : 1))
    const flaws = found.flatMap(([path, stat]) => flaw(path, stat, good) ?? [])
    return flaws.length === 0 ? undefined : summary(flaws)
  } catch (error) {
    return `who could change what it runs cannot be known: ${(error as Error).message}`
  }
}

/** @throws {Error} if there are such files */
export function requireSafeFiles(given: readonly string[] = []): void {
  const wrong = openToOthers(given)
  if (wrong !== undefined) throw new Error(`Cannot serve, since ${wrong}`)
}
