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

/** What the host forbids on a file system is forbidden on its overlay; an overlay does not look at its lower mount. */
const KEPT: Readonly<Record<string, bigint>> = { nosuid: MS_NOSUID, nodev: MS_NODEV, noexec: MS_NOEXEC }

const keptFlags = ({ options }: Mount): bigint => options.reduce((flags, option) => flags | (KEPT[option] ?? 0n), 0n)

/**
 * The host's own file systems as the container's root, each under an overlay that is thrown away.
 *
 * @param userns if given, the lower layers are idmapped with it: the container's root then owns all files of the host.
 *   Without, they belong to nobody, and the kernel's own check hides what is not readable by all.
 */
export function buildHostRoot(userns?: Handle): void {
  const mounts = hostFileSystems(parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8')))
  for (const [index, each] of mounts.entries()) {
    if (each.point === '/') overlay(each, index, userns)
    else if (isDirectory(layout.root + each.point)) overlayOrCopy(each, index, userns)
  }
}

const isDirectory = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false

/** Some file systems cannot be a lower layer (vfat, too deep overlays): those are shown read-only. */
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

/** The root of an overlay has the owner and mode of its upper directory. */
function copyOwner(from: string, to: string): void {
  const { uid, gid, mode } = statSync(from)
  chownSync(to, uid, gid)
  chmodSync(to, mode & 0o7777)
}
