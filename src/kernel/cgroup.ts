import { O_CLOEXEC, O_DIRECTORY, O_PATH, O_RDONLY } from '../abi/fcntl.ts'
import { Fd } from './fd.ts'
import { openat } from './files.ts'
import type { Handle } from './handle.ts'
import { check, libc } from './libc.ts'

const libcOpenByHandleAt = libc.func('int open_by_handle_at(int mount, uint8_t *handle, int flags)')
/** `struct file_handle`: 0 u32 bytes | 4 s32 type | 8 the id; of kernfs the type is FILEID_KERNFS. */
const ID_BYTES = 8
const FILEID_KERNFS = 0xfe
const DOT = Uint8Array.of(0x2e, 0)

/**
 * Opens a cgroup of v2 by its id, which is its inode number and is never used again, as it stands in the mount of another:
 * through that, `..` leads to the groups above, wherever the id was seen. Needs CAP_DAC_READ_SEARCH.
 *
 * @throws {SyscallError} ESTALE if there is no such group
 * @see open_by_handle_at(2), fs/kernfs/mount.c kernfs_fh_to_dentry()
 */
export function openGroup(like: Handle, id: bigint): Fd {
  // It must be an opened directory, not just a handle of it.
  using mount = openat(like.raw, DOT, O_RDONLY | O_DIRECTORY)
  const handle = new DataView(new ArrayBuffer(8 + ID_BYTES))
  handle.setUint32(0, ID_BYTES, true)
  handle.setInt32(4, FILEID_KERNFS, true)
  handle.setBigUint64(8, id, true)
  const flags = O_PATH | O_DIRECTORY | O_CLOEXEC
  return new Fd(check('open_by_handle_at', libcOpenByHandleAt(mount.raw, new Uint8Array(handle.buffer), flags)))
}
