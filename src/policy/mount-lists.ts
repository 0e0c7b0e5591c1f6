import { PolicyError } from './error.ts'
import { fullName } from './key.ts'

interface MountLists {
  readonly allowed: ReadonlySet<string>
  readonly fuse: ReadonlyMap<string, string>
}

/** @throws {PolicyError} if a file system is in both lists: it would be unclear who mounts it */
export function checkMountLists({ allowed, fuse }: MountLists): void {
  const both = [...fuse.keys()].find((name) => allowed.has(name))
  if (both === undefined) return
  const lists = `${fullName('mount.allowed')} and ${fullName('mount.fuse')}`
  throw new PolicyError(`the file system ${JSON.stringify(both)} is in both ${lists}, allowed is one of them`)
}
