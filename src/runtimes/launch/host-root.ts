import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, statSync } from 'node:fs'
import {
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_RDONLY,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
} from '../../abi/mount.ts'
import type { Handle } from '../../kernel/handle.ts'
import { mount } from '../../kernel/mount.ts'
import { type Mount, parseMountinfo } from '../../kernel/procfs/mountinfo.ts'
import { hostFileSystems } from './host-file-systems.ts'
import { layout } from './layout.ts'
import { graft, openDirectory } from './tree.ts'

/** Mount options that are copied from a host mount to its overlay, which ignores the options of its lower mount. */
const KEPT: Readonly<Record<string, bigint>> = { nosuid: MS_NOSUID, nodev: MS_NODEV, noexec: MS_NOEXEC }

const keptFlags = ({ options }: Mount): bigint => options.reduce((flags, option) => flags | (KEPT[option] ?? 0n), 0n)

/**
 * Builds the container's root from the host's file systems, each under an overlay that is thrown away.
 *
 * @param userns if given, the lower layers are idmapped with it, so that the container's root owns all files of the
 *   host; otherwise they belong to nobody, and the kernel's own check hides files that not everybody may read
 */
export function buildHostRoot(userns?: Handle): void {
  const mounts = hostFileSystems(parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8')))
  for (const [index, each] of mounts.entries()) {
    if (each.point === '/') overlay(each, index, userns)
    else if (isDirectory(layout.root + each.point)) overlayOrCopy(each, index, userns)
  }
}

const isDirectory = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false

/**
 * Mounts an overlay, or a read-only bind of a file system that cannot be a lower layer (vfat, overlays that are too
 * deep).
 */
function overlayOrCopy(from: Mount, index: number, userns?: Handle): void {
  try {
    overlay(from, index, userns)
  } catch {
    using target = openDirectory(layout.root + from.point)
    graft(from.point, target, { set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV })
  }
}

function overlay(from: Mount, index: number, userns?: Handle): void {
  const layer = `${layout.layers}/${index}`
  for (const name of ['', '/lower', '/upper', '/work']) mkdirSync(layer + name)
  {
    using lower = openDirectory(`${layer}/lower`)
    graft(from.point, lower, { userns })
  }
  copyOwner(`${layer}/lower`, `${layer}/upper`)
  const options = `lowerdir=${layer}/lower,upperdir=${layer}/upper,workdir=${layer}/work`
  mount('overlay', layout.root + (from.point === '/' ? '' : from.point), keptFlags(from), options)
}

/** Copies owner and mode to the upper directory, from which the root of an overlay takes them. */
function copyOwner(from: string, to: string): void {
  const { uid, gid, mode } = statSync(from)
  chownSync(to, uid, gid)
  chmodSync(to, mode & 0o7777)
}
