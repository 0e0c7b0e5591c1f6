import type { Tid } from '../abi/brand.ts'
import { errno, errnos } from '../abi/errno.ts'
import { PAGE, PROCMAP_QUERY, PROCMAP_QUERY_SIZE, PROCMAP_QUERY_VMA_WRITABLE } from '../abi/system.ts'
import { isErrno, SyscallError } from './error.ts'
import type { Handle } from './fd.ts'
import { check, lastErrno, libc } from './libc.ts'

const libcReadv = libc.func(
  'long process_vm_readv(int pid, void *local, ulong localCount, uint8_t *remote, ulong remoteCount, ulong flags)',
)

const PAGE_BITS = 12
const OFFSET = 4095

/**
 * Copies another task's memory through buffers that are allocated once: `struct iovec` is 0 u64 address | 8 u64 length.
 * The bytes are the task's if its call still waits afterwards. process_vm_readv(2) honours page protection as the
 * kernel's own copies do, and a thread that hangs in it can mostly be killed; neither is true of `/proc/PID/mem`.
 */
export class RemoteMemory {
  readonly #local = new Uint8Array(16)
  readonly #localView = new DataView(this.#local.buffer)
  readonly #remote = new Uint8Array(32)
  readonly #remoteView = new DataView(this.#remote.buffer)
  readonly #localAddress: bigint
  readonly bytes: Uint8Array

  /** @param addressOf returns the address of memory which this object keeps alive */
  constructor(capacity: number, addressOf: (bytes: Uint8Array) => bigint) {
    this.bytes = new Uint8Array(capacity)
    this.#localView.setBigUint64(0, addressOf(this.bytes), true)
    this.#localAddress = addressOf(this.#local)
  }

  /**
   * Copies up to `length` bytes at `at` into `bytes`. A range that crosses a page boundary is read as two pieces: the
   * kernel copies whole pieces only, so the bytes before an unmapped page still arrive.
   *
   * @param length at most a page
   * @returns how many bytes arrived
   * @throws {SyscallError} EFAULT if none did; ESRCH if the task is gone; EPERM
   */
  read(tid: Tid, at: bigint, length: number): number {
    const pieces = this.#aim(at, length)
    return check('process_vm_readv', Number(libcReadv(tid, this.#localAddress, 1, this.#remote, pieces, 0)))
  }

  /**
   * Copies a string as `read` does. The next page is read only if the string continues there, since the kernel needs a
   * while for each page.
   */
  readString(tid: Tid, at: bigint, length: number): number {
    const whole = Math.min(length, PAGE - Number(BigInt.asUintN(PAGE_BITS, at)))
    const arrived = this.read(tid, at, whole)
    if (arrived < length && arrived === whole && !this.#hasEnd(arrived)) return this.read(tid, at, length)
    return arrived
  }

  #hasEnd(length: number): boolean {
    for (let index = 0; index < length; index++) if (this.bytes[index] === 0) return true
    return false
  }

  /**
   * Writes the pieces and returns their number. Uses numbers instead of bigints where they are enough, since each
   * bigint is an allocation; the upper halves stay 0.
   */
  #aim(at: bigint, length: number): 1 | 2 {
    const remote = this.#remoteView
    this.#localView.setUint32(8, length, true)
    remote.setBigUint64(0, at, true)
    const first = PAGE - (remote.getUint32(0, true) & OFFSET)
    if (length <= first) {
      remote.setUint32(8, length, true)
      return 1
    }
    remote.setUint32(8, first, true)
    remote.setBigUint64(16, at + BigInt(first), true)
    remote.setUint32(24, length - first, true)
    return 2
  }
}

/** Copies exactly `length` bytes of another task's memory. @throws {SyscallError} EFAULT if not all can be read */
export function copyFrom(memory: RemoteMemory, tid: Tid, at: bigint, length: number): Uint8Array {
  const copy = new Uint8Array(length)
  for (let done = 0; done < length; ) {
    const chunk = Math.min(length - done, memory.bytes.length)
    if (memory.read(tid, at + BigInt(done), chunk) !== chunk)
      throw new SyscallError('process_vm_readv', errno('EFAULT'))
    copy.set(memory.bytes.subarray(0, chunk), done)
    done += chunk
  }
  return copy
}

const libcPread = libc.func('long pread(int fd, uint8_t *buffer, size_t length, uint64_t offset)')
const libcPwrite = libc.func('long pwrite(int fd, uint8_t *bytes, size_t length, uint64_t offset)')
/** On arm64 the highest byte of a pointer may be a tag (MTE, HWASAN), which the kernel's own copies ignore. */
const untagged = (at: bigint): bigint => (process.arch === 'arm64' ? BigInt.asUintN(64, BigInt.asIntN(56, at)) : at)

const libcIoctl = libc.func('int ioctl(int fd, ulong request, uint8_t *argument)')

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
      const start = untagged(at) + BigInt(done)
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
