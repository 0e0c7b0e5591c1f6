import { errno, errnos } from '../abi/errno.ts'
import { PROCMAP_QUERY, PROCMAP_QUERY_SIZE, PROCMAP_QUERY_VMA_WRITABLE } from '../abi/procmap.ts'
import { isErrno, SyscallError } from './error.ts'
import type { Handle } from './handle.ts'
import { check, lastErrno, libc } from './libc.ts'

const libcPread = libc.func('long pread(int fd, uint8_t *buffer, size_t length, uint64_t offset)')
const libcPwrite = libc.func('long pwrite(int fd, uint8_t *bytes, size_t length, uint64_t offset)')
const libcIoctl = libc.func('int ioctl(int fd, ulong request, uint8_t *argument)')

/** A writable mapping. */
interface Mapping {
  /** The address after the last byte. */
  readonly end: bigint
  /** Whether it maps a file, whose file system may never deliver a page. */
  readonly ofFile: boolean
}

const query = new Uint8Array(PROCMAP_QUERY_SIZE)
const queryView = new DataView(query.buffer)

/**
 * Returns the writable mapping at `at`.
 *
 * `struct procmap_query`: 0 u64 size | 8 u64 flags | 16 u64 address | 32 u64 end | 64 u64 inode
 *
 * @param maps `/proc/PID/maps`
 * @throws {SyscallError} EFAULT; ENOTTY before 6.11; ESRCH if the memory is gone
 */
export function queryWritable(maps: Handle, at: bigint): Mapping {
  query.fill(0)
  queryView.setUint32(0, PROCMAP_QUERY_SIZE, true)
  queryView.setUint32(8, PROCMAP_QUERY_VMA_WRITABLE, true)
  queryView.setBigUint64(16, at, true)
  if (libcIoctl(maps.raw, PROCMAP_QUERY, query) === 0)
    return { end: queryView.getBigUint64(32, true), ofFile: queryView.getBigUint64(64, true) !== 0n }
  const why = lastErrno()
  throw new SyscallError('PROCMAP_QUERY', why === errnos.ENOENT ? errno('EFAULT') : why)
}

const LINE = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)/
const chunk = Buffer.alloc(65_536)

/** Finds the same mapping in the text of the file, on any kernel. The file's position does not matter. */
export function findWritable(maps: Handle, at: bigint): Mapping {
  let rest = ''
  for (let offset = 0; ; ) {
    const length = check('pread', libcPread(maps.raw, chunk, chunk.length, offset))
    if (length === 0) throw new SyscallError('pread', errno('EFAULT'))
    offset += length
    const lines = (rest + chunk.toString('latin1', 0, length)).split('\n')
    rest = lines.pop()!
    for (const line of lines) {
      const [, from, to, mode, inode] = LINE.exec(line)!
      const end = BigInt(`0x${to}`)
      if (end <= at) continue
      if (BigInt(`0x${from}`) > at || !mode!.includes('w')) throw new SyscallError('pread', errno('EFAULT'))
      return { end, ofFile: inode !== '0' }
    }
  }
}

/**
 * Writes into the memory that a task had when `mem` was opened. The descriptor keeps that memory: it cannot become
 * another task's, while process_vm_writev(2) would look up the number again, which may be reused.
 *
 * `/proc/PID/mem` ignores the protection of private pages (FOLL_FORCE), so the mappings are checked first. If the task
 * protects or replaces a page in between, it is still a page of this task.
 */
export class HeldMemory {
  readonly #mem: Handle
  readonly #maps: Handle

  /**
   * @param mem `/proc/PID/mem`, opened for writing
   * @param maps `/proc/PID/maps`
   */
  constructor(mem: Handle, maps: Handle) {
    this.#mem = mem
    this.#maps = maps
  }

  /**
   * Writes `bytes`; if a page is bad, the bytes before it are written.
   *
   * @param fetch called with each part that maps a file before it is written: reading the page may hang, and a thread
   * that
   *   hangs in `/proc/PID/mem` cannot be killed
   * @throws {SyscallError} EFAULT
   */
  write(at: bigint, bytes: Uint8Array, fetch: (at: bigint, length: number) => unknown): void {
    for (let done = 0; done < bytes.length; ) {
      const start = at + BigInt(done)
      const { end, ofFile } = this.#mapping(start)
      const length = Math.min(bytes.length - done, Number(end - start))
      if (ofFile) fetch(start, length)
      const part = done === 0 ? bytes : bytes.subarray(done)
      if (Number(libcPwrite(this.#mem.raw, part, length, start)) !== length)
        throw new SyscallError('pwrite', errno('EFAULT'))
      done += length
    }
  }

  #mapping(at: bigint): Mapping {
    try {
      return queryWritable(this.#maps, at)
    } catch (error) {
      if (!isErrno(error, 'ENOTTY')) throw error
      return findWritable(this.#maps, at)
    }
  }
}
