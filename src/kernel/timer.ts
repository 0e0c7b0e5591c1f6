import { errnos } from '../abi/errno.ts'
import { CLOCK_MONOTONIC, TFD_CLOEXEC } from '../abi/time.ts'
import { SyscallError } from './error.ts'
import { Fd } from './fd.ts'
import { check, lastErrno, libc } from './libc.ts'

const libcTimerfdCreate = libc.func('int timerfd_create(int clock, int flags)')
const libcTimerfdSettime = libc.func('int timerfd_settime(int fd, int flags, uint8_t *value, void *old)')
const libcRead = libc.func('long read(int fd, uint8_t *buffer, size_t length)')

export const timerfd = (): Fd => new Fd(check('timerfd_create', libcTimerfdCreate(CLOCK_MONOTONIC, TFD_CLOEXEC)))

/** Encodes `struct itimerspec` of a single expiry: 0 s64[2] interval | 16 s64 seconds | 24 s64 nanoseconds. */
function once(nanoseconds: number): Uint8Array {
  const bytes = Buffer.alloc(32)
  bytes.writeBigInt64LE(BigInt(nanoseconds), 24)
  return bytes
}

/** An alarm of a fixed length on a timerfd. Any thread may set it; one thread waits for it. */
export class Alarm {
  readonly #raw: number
  readonly #later: Uint8Array
  readonly #now = once(1)
  readonly #expirations = new Uint8Array(8)

  /** @param raw of `timerfd()`, which must outlive this @param milliseconds less than 1000 */
  constructor(raw: number, milliseconds: number) {
    this.#raw = raw
    this.#later = once(milliseconds * 1e6)
  }

  /** Starts the alarm's time again. */
  set(): void {
    libcTimerfdSettime(this.#raw, 0, this.#later, null)
  }

  /** Lets the alarm go off at once. */
  ring(): void {
    libcTimerfdSettime(this.#raw, 0, this.#now, null)
  }

  /** Blocks the calling thread until the alarm goes off, or a signal arrives. */
  wait(): void {
    if (libcRead(this.#raw, this.#expirations, 8) >= 0) return
    const errno = lastErrno()
    if (errno !== errnos.EINTR) throw new SyscallError('read', errno)
  }
}
