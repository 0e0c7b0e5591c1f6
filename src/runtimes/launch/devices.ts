import { chownSync, statSync } from 'node:fs'
import { basename, dirname, normalize } from 'node:path'
import type { Dev, Mode, PathBytes } from '../../abi/brand.ts'
import { major, minor } from '../../abi/dev.ts'
import { S_IFBLK, S_IFCHR } from '../../abi/stat.ts'
import { mknodat } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { makeOwned } from './fresh.ts'
import type { IdRange } from './ids-record.ts'
import { layout } from './layout.ts'
import type { DeviceRule } from './oci-config.ts'
import { openDirectory } from './tree.ts'

/** A device of the host that the container gets. */
export interface Device {
  /** The path relative to /dev. */
  readonly name: string
  readonly kind: 'c' | 'b'
  readonly dev: Dev
}

/**
 * Parses `--device PATH[:PATH]`.
 *
 * @throws {Error} if the first PATH names no device of the host, or the second is not below /dev
 */
export function readDevice(text: string): Device {
  const [source = '', target = source] = text.split(':')
  const found = statSync(source, { throwIfNoEntry: false })
  if (!found) throw new Error(`Cannot use --device "${text}": no such device; "ls -l /dev" shows those of the host`)
  if (!found.isCharacterDevice() && !found.isBlockDevice()) {
    throw new Error(`Cannot use --device "${text}": it is not a device; "ls -l /dev" shows those of the host`)
  }
  const path = normalize(target)
  if (!path.startsWith('/dev/'))
    throw new Error(
      `Cannot use --device "${text}": the container's path must lie below /dev; leave it out to have the host's`,
    )
  return { name: path.slice('/dev/'.length), kind: found.isBlockDevice() ? 'b' : 'c', dev: found.rdev as Dev }
}

export const ruleFor = ({ kind, dev }: Pick<Device, 'kind' | 'dev'>): DeviceRule => ({
  allow: true,
  type: kind,
  major: major(dev),
  minor: minor(dev),
  access: 'rwm',
})

/**
 * Makes a node that belongs to the container, whose root may then open it and change its mode; the host's node is not
 * shared.
 */
export function placeDevice({ name, kind, dev }: Device, owner: IdRange): void {
  const path = `${layout.fresh}/dev/${name}`
  if (name.includes('/')) makeOwned(dirname(path), 0o755, owner)
  using parent = openDirectory(dirname(path))
  const mode = (kind === 'c' ? S_IFCHR : S_IFBLK) | 0o600
  mknodat(parent, cstring(basename(path)) as PathBytes, mode as Mode, dev)
  chownSync(path, owner.uid, owner.gid)
}
