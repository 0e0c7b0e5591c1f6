import { CLOCK_BOOTTIME, CLOCK_THREAD_CPUTIME_ID, RUSAGE_THREAD } from '../abi/time.ts'
import { check, libc } from './libc.ts'

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
  // The low 32 bits of the seconds last for 136 years.
  return view.getUint32(0, true) * 1000 + view.getUint32(8, true) / 1e6
}
