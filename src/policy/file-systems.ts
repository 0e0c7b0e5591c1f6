import { briefly } from '../shared/briefly.ts'
import { keys } from './keys.ts'
import type { Settings } from './settings.ts'
import { didYouMean } from './suggest.ts'

/** Lists names of `mount.allowed` that the kernel does not know, each with its remedy: a module may be loaded later. */
export function unknownFileSystems(settings: Settings, known: () => ReadonlySet<string>): readonly string[] {
  const allowed = [...keys['mount.allowed'].parse(settings.get('mount.allowed')?.text ?? '')]
  if (allowed.length === 0) return []
  const names = known()
  if (names.size === 0) return []
  return allowed
    .filter((name) => !names.has(driverOf(name)))
    .map(
      (name) =>
        `mount.allowed: this kernel does not know the file system ${briefly(name)}${didYouMean(name, names)}; ` +
        `/proc/filesystems has those that it knows, and more come with modules`,
    )
}

/** A subtype, as in fuseblk.ntfs, is the same driver; linux/fs/filesystems.c get_fs_type() */
const driverOf = (name: string): string => name.split('.')[0]!
