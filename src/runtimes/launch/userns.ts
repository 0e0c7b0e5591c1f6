import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { AT_FDCWD, O_RDONLY } from '../../abi/fcntl.ts'
import type { Fd } from '../../kernel/fd.ts'
import { openat } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { ID_COUNT } from '../flags.ts'
import type { IdRange } from './ids-record.ts'

/**
 * Returns a user namespace with the container's id maps, for idmapped mounts. Node is multithreaded and cannot
 * unshare one itself, so a `cat` in a new one keeps it until it is opened; its echo tells that the namespace exists.
 */
export async function mappedNamespace({ uid, gid }: IdRange): Promise<Fd> {
  const holder = spawn('unshare', ['--user', '--', 'cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(holder, 'exit')
  try {
    holder.stdin.write('\n')
    await Promise.race([once(holder.stdout, 'data'), ended.then(() => Promise.reject(new Error('unshare failed')))])
    writeFileSync(`/proc/${holder.pid}/uid_map`, `0 ${uid} ${ID_COUNT}`)
    writeFileSync(`/proc/${holder.pid}/gid_map`, `0 ${gid} ${ID_COUNT}`)
    return openat(AT_FDCWD, cstring(`/proc/${holder.pid}/ns/user`), O_RDONLY)
  } catch (error) {
    throw new Error(`Cannot make a user namespace: ${(error as Error).message}`)
  } finally {
    holder.kill('SIGKILL')
    await ended.catch(() => {})
  }
}
