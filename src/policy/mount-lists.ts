import { briefly } from '../shared/briefly.ts'
import { PolicyError } from './error.ts'
import { fullName } from './key.ts'

interface MountLists {
  readonly allowed: ReadonlySet<string>
  readonly fuse: ReadonlyMap<string, string>
}

/**
 * Checks that no file system is in both lists, which would leave unclear who mounts it.
 *
 * @throws {PolicyError} naming the file system
 */
export function checkMountLists({ allowed, fuse }: MountLists): void {
  const both = [...fuse.keys()].find((name) => allowed.has(name))
  if (both === undefined) return
  const lists = `${fullName('mount.allowed')} and ${fullName('mount.fuse')}`
  throw new PolicyError(`the file system ${briefly(both)} is in both ${lists}, allowed is one of them`)
}
