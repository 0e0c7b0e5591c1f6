import { readFileSync } from 'node:fs'
import { release } from 'node:os'

/** What file systems the kernel has, or could load by their names; empty if it does not tell. */
export function knownFileSystems(): ReadonlySet<string> {
  const listed = read('/proc/filesystems')
  if (listed === '') return new Set()
  // By this alias the kernel asks for the module; linux/fs/filesystems.c get_fs_type()
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
