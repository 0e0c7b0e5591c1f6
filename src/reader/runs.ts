import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { AT_FDCWD, O_RDONLY } from '../abi/fcntl.ts'
import { orElse } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import { openat } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { startTime } from '../kernel/process.ts'
import { parseMountinfo } from '../kernel/procfs/mountinfo.ts'
import { isDirectoryHead } from '../memories/directory.ts'
import { FAMILY, pidsSuffix } from '../runtimes/launch/cgroup.ts'
import { MemoryFile } from './directory-reader.ts'
import { FeedReader } from './feed.ts'

/** A running `intercede run`. Its container has the same id. */
export interface Run {
  readonly id: string
  readonly pid: number
  /** When the process was started, in ticks since boot. */
  readonly started: number
}

/** The memories, in the order in which readers get them. */
const MEMORIES = ['intercede-records', 'intercede-counts', 'intercede-directory']

/** Lists the entries of a directory; none if it cannot be read. */
const namesIn = (directory: string): readonly string[] => orElse([], () => readdirSync(directory))

function runOf(id: string): readonly Run[] {
  const [, name, suffix = ''] = /^(\d+-\d+)(-\d+)?$/.exec(id) ?? []
  const [pid, started] = suffix === pidsSuffix() ? (name ?? '').split('-').map(Number) : []
  return pid !== undefined && startTime(pid) === started ? [{ id, pid, started: started! }] : []
}

/** Finds the machine's runs by their control groups, which are named after the processes. */
export function findRuns(): readonly Run[] {
  const mounts = parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8')).filter(({ type }) => type === 'cgroup2')
  return [...new Set(mounts.flatMap(({ point }) => namesIn(`${point}/${FAMILY}`)))].flatMap(runOf)
}

function memoryOf(pid: number, descriptors: readonly string[], name: string): Fd | undefined {
  const found = descriptors.find((each) => readlink(`/proc/${pid}/fd/${each}`).startsWith(`/memfd:${name} `))
  return found === undefined ? undefined : openat(AT_FDCWD, cstring(`/proc/${pid}/fd/${found}`), O_RDONLY)
}

const readlink = (path: string): string => orElse('', () => readlinkSync(path))

/**
 * Opens the memories of a run, which has no socket for readers: only root may.
 *
 * @returns undefined if it has none, because it intercepts nothing, or belongs to another version
 */
export function openRun({ pid, started }: Run): FeedReader | undefined {
  const files: MemoryFile[] = []
  try {
    const descriptors = namesIn(`/proc/${pid}/fd`)
    for (const name of MEMORIES) {
      const fd = memoryOf(pid, descriptors, name)
      if (fd) files.push(new MemoryFile(fd))
    }
    const isOurs = files.length === MEMORIES.length && isDirectoryHead(files[2]!.words(0, 2))
    if (isOurs && startTime(pid) === started) return new FeedReader(files.splice(0))
  } catch {
    // The run has ended meanwhile, or belongs to another user.
  }
  for (const file of files) file[Symbol.dispose]()
  return undefined
}
