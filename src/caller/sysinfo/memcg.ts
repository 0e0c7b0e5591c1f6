import { type ReadCgroup, TOP } from './cgroup-files.ts'

/** What one control group lets its processes have, in bytes; Infinity where it sets no limit. */
export interface Level {
  readonly limit: number
  /** What could not be given back at once: without the page cache of files. */
  readonly used: number
  readonly swapLimit: number
  readonly swapUsed: number
  /** tmpfs and shared memory. */
  readonly shared: number
  /** Caches of the kernel's own that could be given back; v1 does not tell. */
  readonly kernelCache: number
}

/** v1 writes a number near 2^63 for no limit. */
const NONE = 2 ** 62
/** Deeper than any hierarchy that a runtime makes. */
const HEIGHT_LIMIT = 64

interface Format {
  readonly limit: string
  readonly usage: string
  /** Of those lines of memory.stat that count the groups below too. */
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

/** Its figures of swap are of memory and swap together. */
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

/** @see linux/Documentation/admin-guide/cgroup-v2.rst */
export const unifiedLevels = (read: ReadCgroup): readonly Level[] => levels(read, unified)
/** @see linux/Documentation/admin-guide/cgroup-v1/memory.rst */
export const legacyLevels = (read: ReadCgroup): readonly Level[] => levels(read, legacy)

/** The group and all that it lies in, from the inside out; those without the controller have no level. */
function levels(read: ReadCgroup, format: Format): readonly Level[] {
  const found: Level[] = []
  for (let height = 0; height < HEIGHT_LIMIT; height++) {
    const limit = read(height, format.limit)
    if (limit === TOP) break
    if (limit === undefined) continue
    const text = (name: string): string => textOf(read(height, name))
    // How much is used matters where there is a limit; what is shared is asked of the innermost group only.
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
    // Pages of a file that were just read may be counted as cache before they are as used.
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

/** A line of memory.stat: `name value`; 0 if there is none. */
function parseStatLine(stat: string, name: string): number {
  const start = stat.startsWith(`${name} `) ? 0 : stat.indexOf(`\n${name} `) + 1
  if (start === 0 && !stat.startsWith(`${name} `)) return 0
  return Number.parseInt(stat.slice(start + name.length + 1), 10)
}
