import { FILEID_KERNFS, O_CLOEXEC, O_DIRECTORY, O_PATH, O_RDONLY } from '../abi/fcntl.ts'
import { Fd, type Handle } from './fd.ts'
import { openat } from './files.ts'
import { check, libc } from './libc.ts'

/** The group of a task in one hierarchy, as `/proc/PID/cgroup` shows it, proc_pid_cgroup(5). */
export interface Membership {
  /** The controllers of v1, or its `name=NAME`; none for the unified hierarchy, v2. */
  readonly controllers: readonly string[]
  /** Ends with ` (deleted)` if the group was removed, and begins with `/..` outside our cgroup namespace. */
  readonly path: string
}

/**
 * Parses lines such as `4:memory:/path` and `0::/path`. A container may name its groups with all bytes but a slash and
 * a line feed. So a path may contain colons, and a carriage return, which regular expressions take for the end of a
 * line.
 *
 * @throws {RangeError} if a line is malformed or cut off: a caller whose group is unknown must not be served as if it
 *   were in no group
 */
export function parseCgroups(text: string): readonly Membership[] {
  const lines = text.split('\n')
  if (lines.pop() !== '') throw new RangeError('Cannot read cgroup: it is cut off')
  return lines.map(parseLine)
}

function parseLine(line: string): Membership {
  const [, names, path] = /^\d+:([^:]*):(\/.*)$/s.exec(line) ?? []
  if (names === undefined || path === undefined) throw new RangeError('Cannot read cgroup: a line is no membership')
  return { controllers: names === '' ? [] : names.split(','), path }
}

const libcOpenByHandleAt = libc.func('int open_by_handle_at(int mount, uint8_t *handle, int flags)')
/** `struct file_handle`: 0 u32 bytes | 4 s32 type | 8 u64 id; the type is FILEID_KERNFS for kernfs. */
const ID_BYTES = 8
const DOT = Uint8Array.of(0x2e, 0)

/**
 * Opens a cgroup of v2 by its id, which is its inode number and is never reused. Needs CAP_DAC_READ_SEARCH.
 *
 * @param like a cgroup in whose mount the result is opened: there `..` leads to the cgroups above
 * @throws {SyscallError} ESTALE if there is no such cgroup
 * @see open_by_handle_at(2), fs/kernfs/mount.c kernfs_fh_to_dentry()
 */
export function openGroup(like: Handle, id: bigint): Fd {
  // open_by_handle_at(2) refuses an O_PATH descriptor as the mount.
  using mount = openat(like.raw, DOT, O_RDONLY | O_DIRECTORY)
  const handle = new DataView(new ArrayBuffer(8 + ID_BYTES))
  handle.setUint32(0, ID_BYTES, true)
  handle.setInt32(4, FILEID_KERNFS, true)
  handle.setBigUint64(8, id, true)
  const flags = O_PATH | O_DIRECTORY | O_CLOEXEC
  return new Fd(check('open_by_handle_at', libcOpenByHandleAt(mount.raw, new Uint8Array(handle.buffer), flags)))
}
