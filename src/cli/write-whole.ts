import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  lstatSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'

/** Signals at which a user ends a command. */
const INTERRUPTS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Returns the name that is to be replaced: of a symbolic link that of its target, so that the link stays. It is
 * undefined where only the kernel shall follow, which knows whose links it follows (fs.protected_symlinks): a link to
 * nothing, or one of procfs such as /dev/stdout to a file that has another name by now.
 */
function nameOf(path: string, there: Stats | undefined): string | undefined {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) return path
  if (!there) return undefined
  const target = realpathSync(path)
  const found = statSync(target, { throwIfNoEntry: false })
  return found?.ino === there.ino && found.dev === there.dev ? target : undefined
}

/**
 * Writes a file so that it has the old text or the new one at any time, also if there is no room or the machine stops:
 * beside it and then renamed over it. It keeps its mode and owner. A pipe or a device is written to as it is.
 *
 * @throws {Error} of node:fs; the file is then as it was
 */
export function writeWhole(path: string, text: string): void {
  const there = statSync(path, { throwIfNoEntry: false })
  const name = there?.isFile() === false ? undefined : nameOf(path, there)
  if (name === undefined) writeFileSync(path, text)
  else uninterrupted(() => replace(name, text, there))
}

/**
 * Writes a new file that only its owner may read. No symbolic link is followed, and there is none of it if that fails.
 *
 * @throws {Error} of node:fs; also if there is anything of this name
 */
export function writeNew(path: string, bytes: Uint8Array): void {
  uninterrupted(() => {
    const file = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
    try {
      writeFileSync(file, bytes)
      fsyncSync(file)
    } catch (error) {
      rmSync(path, { force: true })
      throw error
    } finally {
      closeSync(file)
    }
  })
}

function replace(target: string, text: string, before: Stats | undefined): void {
  const beside = join(dirname(target), `.intercede-${randomBytes(8).toString('hex')}`)
  const file = openSync(beside, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, before ? 0o600 : 0o666)
  try {
    try {
      writeFileSync(file, text)
      if (before) keepOwner(file, before)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(beside, target)
  } catch (error) {
    rmSync(beside, { force: true })
    throw error
  }
  syncDirectory(dirname(target))
}

function keepOwner(file: number, { uid, gid, mode }: Stats): void {
  // Only root may give a file away; for others it becomes their own.
  if (process.geteuid?.() === 0) fchownSync(file, uid, gid)
  fchmodSync(file, mode & 0o777)
}

/** Without it the machine may stop and come back with the old file. Not every file system can do it. */
function syncDirectory(path: string): void {
  const directory = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    fsyncSync(directory)
  } catch {
    // The file is whole all the same.
  } finally {
    closeSync(directory)
  }
}

/** Lets a signal end us only after `act`, which takes moments and would leave a file beside the file. */
function uninterrupted(act: () => void): void {
  function end(signal: NodeJS.Signals): void {
    for (const name of INTERRUPTS) process.off(name, end)
    process.kill(process.pid, signal)
  }
  // Node runs a handler when it is back in its loop, so nothing may take the handlers away before.
  for (const name of INTERRUPTS) process.on(name, end)
  act()
}
