import { readFileSync } from 'node:fs'
import { release } from 'node:os'

/** Returns the file systems that the kernel has or can load; empty if that cannot be found out. */
export function knownFileSystems(): ReadonlySet<string> {
  const listed = read('/proc/filesystems')
  if (listed === '') return new Set()
  // The kernel requests the module by this alias: linux/fs/filesystems.c get_fs_type()
  const aliases = read(`/lib/modules/${release()}/modules.alias`)
  const names = [...listed.matchAll(/\t(\S+)$/gm), ...aliases.matchAll(/^alias fs-(\S+) /gm)]
  return new Set(names.map(([, name]) => name!))
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
