import { type IdExtent, toInside } from '../../abi/id-map.ts'
import type { Handle } from '../../kernel/handle.ts'
import { findMount, type Mount } from '../../kernel/procfs/mountinfo.ts'
import { procLine } from '../task/same-as-init.ts'

/**
 * Returns a mount's line of a task's mountinfo, see proc_pid_mountinfo(5).
 *
 * @param task the task's `/proc/TID`
 * @param number the mount's id
 * @returns undefined if the mount is not below the root directory of the task
 */
export function mountinfoEntry(task: Handle, number: number): Mount | undefined {
  const line = procLine(task, 'mountinfo', `${number} `)
  return line === undefined ? undefined : findMount(line, number)
}

/**
 * Tells whether this tmpfs was mounted outside of the user namespace with these maps and its descendants. The options
 * show the uid and gid that the root directory had at first, unless they are the host's root; whoever asked for them,
 * they are ids of the user namespace in which the tmpfs was mounted.
 *
 * @param line the mount's line of mountinfo, as the host reads it
 * @see linux/mm/shmem.c shmem_show_options(), shmem_parse_one()
 */
export function isTmpfsOfHost(mount: Mount, uidMap: readonly IdExtent[], gidMap: readonly IdExtent[]): boolean {
  if (mount.type !== 'tmpfs') return false
  const idOf = (kind: 'uid' | 'gid'): number =>
    Number(mount.superOptions.find((option) => option.startsWith(`${kind}=`))?.slice(kind.length + 1) ?? 0)
  return toInside(uidMap, idOf('uid')) === undefined || toInside(gidMap, idOf('gid')) === undefined
}
