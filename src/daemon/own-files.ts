import { lstatSync, readdirSync, readFileSync, readlinkSync, realpathSync, type Stats } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PROC_USER_INIT_INO } from '../kernel/require.ts'

const PACKAGES = ['koffi', 'commander', 'valibot', 'yaml']
/** Who may write. */
const GROUP = 0o020
const OTHERS = 0o002
const STICKY = 0o1000

/** For whom a file is good enough: root, who it is run by, and whom this user namespace does not know. */
function owners(): ReadonlySet<number> {
  const all = [0, process.geteuid!()]
  const isHosts = readlinkSync('/proc/self/ns/user') === `user:[${PROC_USER_INIT_INO}]`
  return new Set(isHosts ? all : [...all, Number(readFileSync('/proc/sys/kernel/overflowuid', 'latin1'))])
}

const DIST = join(fileURLToPath(new URL('../..', import.meta.url)), 'dist')

/** What every start reads or runs: the program, and what it needs of others. */
function programFiles(): readonly string[] {
  const { resolve: find } = createRequire(import.meta.url)
  const started = process.argv[1] === undefined ? [] : [process.argv[1]]
  return [
    process.execPath,
    ...started,
    join(dirname(DIST), 'package.json'),
    DIST,
    ...PACKAGES.map((name) => find(name)),
  ]
}

/** All that was built. */
const builtFiles = (): readonly string[] =>
  readdirSync(DIST, { recursive: true, withFileTypes: true })
    .filter(({ name }) => !/\.(d\.ts|map)$/.test(name))
    .map(({ parentPath, name }) => join(parentPath, name))

/** A path and all directories that lead to it, as it is written and as it is without links. */
function chain(path: string): readonly string[] {
  const ways = [resolve(path), realpathSync(path)]
  return ways.flatMap((way) => {
    const all = [way]
    while (dirname(all.at(-1)!) !== all.at(-1)) all.push(dirname(all.at(-1)!))
    return all
  })
}

/** What is wrong with one, and what to do; as sudo and ssh judge, who may write in a directory with the sticky bit renames nothing there. */
function flaw(path: string, stat: Stats, good: ReadonlySet<number>): string | undefined {
  const quoted = JSON.stringify(path)
  if (!good.has(stat.uid)) return `${quoted} belongs to user ${stat.uid}: chown root ${quoted}`
  if (stat.isSymbolicLink() || (stat.isDirectory() && (stat.mode & STICKY) !== 0)) return undefined
  if ((stat.mode & (GROUP | OTHERS)) === 0) return undefined
  const who = (stat.mode & OTHERS) === 0 ? 'its group' : 'everybody'
  return `${quoted} can be written by ${who}: chmod go-w ${quoted}`
}

/**
 * Files and directories by which somebody other than root, or who runs it, could make intercede do anything: it becomes whatever
 * its files are.
 *
 * @param given more files, such as the configuration
 */
export function openToOthers(given: readonly string[] = []): readonly string[] {
  const good = owners()
  const paths = new Set([...[...programFiles(), ...given].flatMap(chain), ...builtFiles()])
  return [...paths].sort().flatMap((path) => flaw(path, lstatSync(path), good) ?? [])
}

/** Of many the first ones: most often one command mends all. */
const SHOWN = 3

/** @param flaws as `openToOthers` says them */
export function summary(flaws: readonly string[]): string {
  const more = flaws.length > SHOWN ? `; and ${flaws.length - SHOWN} more` : ''
  return `others could change what it runs: ${flaws.slice(0, SHOWN).join('; ')}${more}`
}

/** @throws {Error} if there are such files */
export function requireSafeFiles(given: readonly string[] = []): void {
  const flaws = openToOthers(given)
  if (flaws.length > 0) throw new Error(`Cannot serve, since ${summary(flaws)}`)
}
