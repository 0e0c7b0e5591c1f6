import { mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

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
