import { type Dir, type Dirent, opendirSync } from 'node:fs'
import { errnos } from '../../abi/errno.ts'
import { O_RDONLY, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV } from '../../abi/fcntl.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Handle } from '../../kernel/fd.ts'
import { openat2, read } from '../../kernel/files.ts'

/** The result of `ReadCgroup` for a height above the root of the hierarchy. */
export const TOP = Symbol('top')
/**
 * Reads a file of a cgroup, of one of its ancestors (`height`), or of a descendant (`name` is then a longer path).
 *
 * @param height how many levels above the cgroup: 0 is the cgroup itself
 * @returns TOP if there is no cgroup at that height; undefined if the cgroup lacks the file or was removed
 */
type ReadCgroup = (height: number, name: string) => string | undefined | typeof TOP

/** Maximum number of bytes read from a file: several times the size of `memory.stat`. A longer list of tasks is cut. */
const FILE_LIMIT = 32 * 1024
const WITHIN = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS

const buffer = Buffer.alloc(FILE_LIMIT)

/**
 * Returns a reader of the files of a cgroup and its relatives.
 *
 * @param group a descriptor of the cgroup's directory, which must stay open as long as the reader is used
 */
export function cgroupFiles(group: number): ReadCgroup {
  return (height, name) => {
    try {
      // `..` leads to the current parent even if the cgroup was moved, and RESOLVE_NO_XDEV keeps it in the hierarchy.
      const path = Buffer.from(`${'../'.repeat(height)}${name}\0`, 'latin1')
      using file = openat2(group, path, O_RDONLY, WITHIN)
      return whole(file)
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      return error.errno === errnos.EXDEV ? TOP : undefined
    }
  }
}

/** Reads the file to its end or to FILE_LIMIT: cgroupfs returns a list one page per read. */
function whole(file: Handle): string {
  let length = 0
  for (let got = -1; got !== 0 && length < FILE_LIMIT; length += got) got = read(file, buffer.subarray(length))
  return buffer.toString('latin1', 0, length)
}

/** The memory limits and usage of one cgroup, in bytes; a limit is Infinity where the cgroup sets none. */
export interface Level {
  readonly limit: number
  /** All memory, with the page cache of files. */
  readonly usage: number
  /** Memory that could not be reclaimed at once: the usage without the page cache of files. */
  readonly used: number
  readonly swapLimit: number
  readonly swapUsed: number
  /** Memory of tmpfs files and shared memory. */
  readonly shared: number
  /** Reclaimable caches of the kernel (slab); 0 in v1, which does not report them. */
  readonly kernelCache: number
}

/** Limits from this number on mean "no limit": v1 then writes a number near 2^63. */
const NONE = 2 ** 62
/** Maximum number of levels that are read; no runtime makes a deeper hierarchy. */
const HEIGHT_LIMIT = 64

interface Format {
  readonly limit: string
  readonly usage: string
  /** The prefix of the lines of memory.stat that include descendant cgroups. */
  readonly total: string
  readonly swap: (figure: (name: string) => number | undefined, limit: number, usage: number) => Swap
}
type Swap = Pick<Level, 'swapLimit' | 'swapUsed'>

const unified: Format = {
  limit: 'memory.max',
  usage: 'memory.current',
  total: '',
  swap: (figure) => ({
    swapLimit: figure('memory.swap.max') ?? Number.POSITIVE_INFINITY,
    swapUsed: figure('memory.swap.current') ?? 0,
  }),
}

/** cgroup v1, whose `memsw` files count memory and swap together. */
const legacy: Format = {
  limit: 'memory.limit_in_bytes',
  usage: 'memory.usage_in_bytes',
  total: 'total_',
  swap: (figure, limit, usage) => {
    const both = figure('memory.memsw.limit_in_bytes') ?? Number.POSITIVE_INFINITY
    return {
      swapLimit: both === Number.POSITIVE_INFINITY ? both : Math.max(0, both - limit),
      swapUsed: Math.max(0, (figure('memory.memsw.usage_in_bytes') ?? 0) - usage),
    }
  },
}

/** Returns the levels of a cgroup v2. @see linux/Documentation/admin-guide/cgroup-v2.rst */
export const unifiedLevels = (read: ReadCgroup): readonly Level[] => levels(read, unified)
/** Returns the levels of a cgroup of v1. @see linux/Documentation/admin-guide/cgroup-v1/memory.rst */
export const legacyLevels = (read: ReadCgroup): readonly Level[] => levels(read, legacy)

/**
 * Returns the levels of the cgroup and its ancestors, innermost first, without cgroups that lack the memory
 * controller.
 */
function levels(read: ReadCgroup, format: Format): readonly Level[] {
  const found: Level[] = []
  for (let height = 0; height < HEIGHT_LIMIT; height++) {
    const limit = read(height, format.limit)
    if (limit === TOP) break
    if (limit === undefined) continue
    const text = (name: string): string => textOf(read(height, name))
    // The usage matters only where there is a limit; the shared memory is taken from the innermost cgroup only.
    const stat = found.length === 0 || Number.isFinite(parseFigure(limit)) ? text('memory.stat') : ''
    found.push(level(format, parseFigure(limit), stat, text))
  }
  return found
}

function level(format: Format, limit: number, stat: string, text: (name: string) => string): Level {
  const { usage: usageName, total, swap } = format
  const figure = (name: string): number | undefined => {
    const content = text(name)
    return content === '' ? undefined : parseFigure(content)
  }
  const usage = figure(usageName) ?? 0
  const line = (name: string): number => parseStatLine(stat, `${total}${name}`)
  return {
    limit,
    usage,
    // The kernel may count fresh pages of a file as cache before it counts them as usage, so the difference may be
    // negative.
    used: Math.max(0, usage - line('inactive_file') - line('active_file')),
    shared: line('shmem'),
    kernelCache: line('slab_reclaimable'),
    ...swap(figure, limit, usage),
  }
}

const textOf = (content: string | undefined | typeof TOP): string => (typeof content === 'string' ? content : '')

function parseFigure(text: string): number {
  const value = Number.parseInt(text, 10)
  return value < NONE ? value : Number.POSITIVE_INFINITY
}

/** Returns the value of a line `name value` of memory.stat; 0 if there is no such line. */
function parseStatLine(stat: string, name: string): number {
  const start = stat.startsWith(`${name} `) ? 0 : stat.indexOf(`\n${name} `) + 1
  if (start === 0 && !stat.startsWith(`${name} `)) return 0
  return Number.parseInt(stat.slice(start + name.length + 1), 10)
}

/** Maximum number of descendant cgroups that are counted, since a container makes as many as it likes. */
const GROUPS_LIMIT = 64

/**
 * Returns the number of tasks in a cgroup and its descendants: its `pids.current`. If the unified hierarchy lacks the
 * pids controller, the tasks are counted one by one, up to some thousands in each of GROUPS_LIMIT cgroups.
 *
 * @param group a descriptor of the cgroup's directory
 * @returns undefined if no file tells the number, or the cgroup was removed
 */
export function countTasks(group: number): number | undefined {
  const read = cgroupFiles(group)
  const current = read(0, 'pids.current')
  if (typeof current === 'string') return Number.parseInt(current, 10)
  const own = threadsIn(read, '')
  if (own === undefined) return undefined
  return below(group, read).reduce((sum, path) => sum + (threadsIn(read, path) ?? 0), own)
}

function threadsIn(read: ReadCgroup, path: string): number | undefined {
  const threads = read(0, `${path}cgroup.threads`)
  return typeof threads === 'string' ? threads.split('\n').length - 1 : undefined
}

/** Returns the relative paths of descendant cgroups, each with a slash at its end. */
function below(group: number, read: ReadCgroup): readonly string[] {
  const stat = read(0, 'cgroup.stat')
  if (typeof stat !== 'string' || stat.startsWith('nr_descendants 0\n')) return []
  const paths = ['']
  for (let next = 0; next < paths.length && paths.length < GROUPS_LIMIT; next++) {
    for (const name of directoriesIn(`/proc/self/fd/${group}/${paths[next]}`, GROUPS_LIMIT - paths.length))
      paths.push(`${paths[next]}${name}/`)
  }
  return paths.slice(1)
}

/** Returns the names of subdirectories; none if the cgroup was removed. */
function directoriesIn(path: string, most: number): readonly string[] {
  let directory: Dir | undefined
  try {
    directory = opendirSync(Buffer.from(path, 'latin1'), { encoding: 'latin1' })
    return firstDirectories(directory, most)
  } catch {
    return []
  } finally {
    directory?.closeSync()
  }
}

/**
 * Returns the first `most` subdirectories. A container may have made a hundred thousand: reading them all would take
 * seconds, ten times a second.
 */
export function firstDirectories(
  directory: { readSync(): Pick<Dirent, 'name' | 'isDirectory'> | null },
  most: number,
): readonly string[] {
  const names: string[] = []
  while (names.length < most) {
    const entry = directory.readSync()
    if (!entry) break
    if (entry.isDirectory()) names.push(entry.name)
  }
  return names
}
