import { type IdExtent, toInside } from '../../abi/id-map.ts'
import type { Handle } from '../../kernel/handle.ts'
import { findMount, type Mount } from '../../kernel/procfs/mountinfo.ts'
import { readProcText } from '../task/same-as-init.ts'

/**
 * What the mount namespace of a task tells of one mount, see proc_pid_mountinfo(5).
 *
 * @param task its `/proc/TID`
 * @returns undefined if it is not there, below the root directory of the task
 */
export const mountinfoEntry = (task: Handle, number: number): Mount | undefined =>
  findMount(readProcText(task, 'mountinfo'), number)

/**
 * Was this tmpfs mounted outside of the user namespace with these maps, and of all below it? The user and the group that its
 * root directory had at first show in its options, unless they are the host's root; they are of the user namespace in which it
 * was mounted, whoever asked for them.
 *
 * @see linux/mm/shmem.c shmem_show_options(), shmem_parse_one()
 */
export function isTmpfsOfHost(mount: Mount, uidMap: readonly IdExtent[], gidMap: readonly IdExtent[]): boolean {
  if (mount.type !== 'tmpfs') return false
  const idOf = (kind: 'uid' | 'gid'): number =>
    Number(mount.superOptions.find((option) => option.startsWith(`${kind}=`))?.slice(kind.length + 1) ?? 0)
  return toInside(uidMap, idOf('uid')) === undefined || toInside(gidMap, idOf('gid')) === undefined
}
