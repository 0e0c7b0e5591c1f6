import { type ReadCgroup, TOP } from './cgroup-files.ts'

/** The memory limits and usage of one cgroup, in bytes; a limit is Infinity where the cgroup sets none. */
export interface Level {
  readonly limit: number
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
