import { constants, fstatSync, mkdirSync, openSync, readSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { Fd } from '../kernel/fd.ts'

const { O_NONBLOCK, O_RDONLY } = constants
const MIB = 1024 * 1024

/**
 * Reads a text file whose path comes from outside: it may be a device that never ends, or a FIFO without a writer.
 *
 * @param pipes whether a pipe may be read until its end, as a command in a shell does
 * @param limit in bytes; 1 MiB is more than any configuration, profile or bundle has. A text is parsed in one go, which
 *   blocks all else
 * @throws {Error} that says what is wrong with the file, without its name
 */
export function readText(path: string, { pipes = false, limit = MIB } = {}): string {
  using file = opened(path, O_RDONLY | (pipes ? 0 : O_NONBLOCK))
  const about = fstatSync(file.raw)
  if (!about.isFile() && !(pipes && about.isFIFO()))
    throw new Error('it is no regular file; name one that holds the text')
  // A file of /proc says 0, and one that grows meanwhile more than it said.
  const said = about.isFile() && about.size > 0 ? about.size : limit
  return textOf(file.raw, limit, Math.min(said, limit))
}

function opened(path: string, flags: number): Fd {
  try {
    return new Fd(openSync(path, flags))
  } catch (error) {
    throw new Error(`${(error as Error).message}; name a file that is there and can be read`)
  }
}

/** @param room how many bytes there may be at first: memory for `limit` would be cleared and collected each time */
function textOf(file: number, limit: number, room: number): string {
  let bytes = Buffer.allocUnsafe(room + 1)
  let length = 0
  for (let more = 1; more > 0 && length <= limit; length += more) {
    if (length === bytes.length) bytes = Buffer.concat([bytes], limit + 1)
    more = readSync(file, bytes, { offset: length })
  }
  if (length > limit) throw new Error(`it is larger than ${limit / MIB} MiB; is it the right file?`)
  return bytes.toString('utf8', 0, length)
}

const isDirectory = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false

/**
 * Makes a directory that may be there, and those above it. Node's `recursive` says ENOENT of a file system that is
 * read-only, and this says EROFS.
 */
export function makeDirectory(path: string, mode = 0o755): void {
  if (isDirectory(path)) return
  if (!isDirectory(dirname(path))) makeDirectory(dirname(path), mode)
  try {
    mkdirSync(path, { mode })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !isDirectory(path)) throw error
  }
}
