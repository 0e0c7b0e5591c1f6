import { errnos } from '../abi/errno.ts'
import { CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID, RUSAGE_THREAD, TFD_CLOEXEC } from '../abi/system.ts'
import { SyscallError } from './error.ts'
import { Fd } from './fd.ts'
import { check, lastErrno, libc } from './libc.ts'

/** Taken once: the global is a getter, which costs more than the clock. node:perf_hooks takes a millisecond to load. */
const { performance } = globalThis

/** performance.now() counts from the start of its thread, so this offset makes it the same in all threads. */
const OFFSET = process.uptime() * 1000 - performance.now()

/** Returns milliseconds on a clock that all threads of this process share. */
export const now = (): number => performance.now() + OFFSET

const libcClockGettime = libc.func('int clock_gettime(int clock, uint8_t *time)')
const libcGetrusage = libc.func('int getrusage(int who, uint8_t *usage)')

const usage = new Uint8Array(144)
const usageView = new DataView(usage.buffer)
const time = new Uint8Array(16)
const view = new DataView(time.buffer)

/** Returns milliseconds since boot, of our time namespace; this clock counts while the machine is suspended. */
export const bootTime = (): number => milliseconds(CLOCK_BOOTTIME)

/** Returns the processor time of the calling thread in milliseconds, in user and kernel mode. */
export const threadTime = (): number => milliseconds(CLOCK_THREAD_CPUTIME_ID)

/**
 * Returns the processor time of all threads of a process in milliseconds; 0 if there is none of this number. The caller
 * must know that the number is still the same process's.
 *
 * @see clock_getcpuclockid(3), linux/include/linux/posix-timers_types.h CPUCLOCK_SCHED
 */
export const processTime = (pid: number): number =>
  libcClockGettime((~pid << 3) | 2, time) === 0 ? millisecondsIn(view) : 0

/**
 * Returns the processor time of the calling thread as of its last sleep or the last tick, in milliseconds. It costs
 * less than `threadTime` and does not preempt: for the exact time the kernel runs update_curr(), which may find that
 * another thread's turn has come, in the middle of a call.
 *
 * @see getrusage(2): 0 s64 seconds | 8 s64 microseconds as a user | 16, 24 the same in the kernel;
 *   linux/kernel/sched/fair.c update_curr()
 */
export function accountedTime(): number {
  check('getrusage', libcGetrusage(RUSAGE_THREAD, usage))
  const seconds = usageView.getUint32(0, true) + usageView.getUint32(16, true)
  return seconds * 1000 + (usageView.getUint32(8, true) + usageView.getUint32(24, true)) / 1000
}

/** Reads a clock. @see clock_gettime(2): `struct timespec` is 0 s64 seconds | 8 s64 nanoseconds */
function milliseconds(clock: number): number {
  check('clock_gettime', libcClockGettime(clock, time))
  return millisecondsIn(view)
}

/** The low 32 bits of the seconds last for 136 years. */
const millisecondsIn = (read: DataView): number => read.getUint32(0, true) * 1000 + read.getUint32(8, true) / 1e6

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
