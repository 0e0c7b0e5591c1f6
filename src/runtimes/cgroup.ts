import { readFileSync } from 'node:fs'
import { AT_FDCWD } from '../abi/fcntl.ts'
import type { Fd } from '../kernel/fd.ts'
import { O_DIRECTORY, O_PATH, openat } from '../kernel/files.ts'
import { parseMountinfo } from './launch/mountinfo.ts'

/**
 * The directory of a process in the unified hierarchy (cgroup v2), where that is mounted.
 *
 * @returns undefined if it is not mounted here, or if the process is not below the root of our cgroup namespace
 */
export function openCgroup(pid: number): Fd | undefined {
  const path = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'latin1'))?.[1]
  const mount = parseMountinfo(readFileSync('/proc/self/mountinfo', 'latin1')).findLast(
    ({ type, root }) => type === 'cgroup2' && root === '/',
  )
  if (path === undefined || path.startsWith('/..') || !mount) return undefined
  return openat(AT_FDCWD, Buffer.from(`${mount.point}${path}\0`, 'latin1'), O_PATH | O_DIRECTORY)
}
