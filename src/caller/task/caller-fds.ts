import type { Tid } from '../../abi/brand.ts'
import { O_NOFOLLOW, O_PATH, O_RDONLY } from '../../abi/fcntl.ts'
import { orUndefined } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { openat, read, readlink } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'
import type { CgroupLink } from '../programs/caller-bpf.ts'

/** The descriptor table of one thread, which need not be the table of its process (CLONE_FILES). */
export interface FdTable {
  readonly tid: Tid
  readonly tgid: number
  /** The thread's directory in the host's procfs. */
  readonly task: Handle
  readonly identity: ThreadIdentity
}

const name = (fd: number): Uint8Array => Buffer.from(`fd/${fd}\0`)

const unlessClosed = <T>(look: () => T): T | undefined => orUndefined(['ENOENT', 'EBADF'], look)

/**
 * Returns an O_PATH handle of what a descriptor names; undefined if it is not open. O_PATH neither opens nor closes a
 * file, so no file system of the container is asked.
 */
export const handleOf = ({ task, identity }: FdTable, fd: number): Fd | undefined =>
  unlessClosed(() => identity.searching(() => openat(task.raw, name(fd), O_PATH)))

const LINK = 'anon_inode:bpf_link'
/** @see linux/kernel/bpf/syscall.c bpf_link_show_fdinfo(), linux/kernel/bpf/cgroup.c bpf_cgroup_link_show_fdinfo() */
const FIELDS = /^link_id:\s*(\d+)\n(?:.*\n)*prog_id:\s*(\d+)\n(?:.*\n)*cgroup_id:\s*(\d+)\nattach_type:\s*(\d+)$/m
const fdinfo = Buffer.alloc(4096)

/**
 * Returns the BPF link for which a descriptor is open; undefined if it is closed, or of another kind. The descriptor is
 * never duplicated: another thread could put a file there that the container serves, and closing a duplicate of that
 * may take for ever. To read `fdinfo` asks no file system of a container.
 */
export const cgroupLinkOf = ({ task, identity }: FdTable, fd: number): CgroupLink | undefined =>
  unlessClosed(() =>
    identity.searching(() => {
      using link = openat(task.raw, name(fd), O_PATH | O_NOFOLLOW)
      if (Buffer.from(readlink(link)).toString('latin1') !== LINK) return undefined
      using file = openat(task.raw, Buffer.from(`fdinfo/${fd}\0`), O_RDONLY)
      const found = FIELDS.exec(fdinfo.toString('latin1', 0, read(file, fdinfo)))?.slice(1)
      if (!found) return undefined
      const [id, program, group, attachType] = found as [string, string, string, string]
      return { id: Number(id), program: Number(program), group: BigInt(group), attachType: Number(attachType) }
    }),
  )
