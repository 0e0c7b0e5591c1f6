import type { Tid } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { PAGE } from '../abi/limits.ts'
import { SyscallError } from './error.ts'
import { check, libc } from './libc.ts'

const libcReadv = libc.func(
  'long process_vm_readv(int pid, void *local, ulong localCount, uint8_t *remote, ulong remoteCount, ulong flags)',
)

const PAGE_BITS = 12
const OFFSET = 4095

/**
 * Copies another task's memory through buffers that are allocated once: `struct iovec` is 0 u64 address | 8 u64 length.
 * The bytes are the task's if its call still waits afterwards. process_vm_readv(2) honours page protection as the
 * kernel's own copies do, and a thread that hangs in it can be killed; neither is true of `/proc/PID/mem`.
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
