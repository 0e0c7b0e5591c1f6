import { performance } from 'node:perf_hooks'
import { check, libc } from './libc.ts'

/** performance.now() counts from the start of each thread. */
const OFFSET = process.uptime() * 1000 - performance.now()

/**
 * Milliseconds that pass alike for all threads of this process. The global names `performance` and `process` are getters,
 * which cost more than the clock itself.
 */
export const now = (): number => performance.now() + OFFSET

const CLOCK_BOOTTIME = 7
const SC_CLK_TCK = 2

const libcClockGettime = libc.func('int clock_gettime(int clock, uint8_t *time)')
const libcSysconf = libc.func('long sysconf(int name)')

const time = new Uint8Array(16)
const view = new DataView(time.buffer)

/**
 * Milliseconds since boot, of the time namespace that we are in; it goes on while the machine sleeps, and never goes back.
 *
 * @see clock_gettime(2): `struct timespec` is 0 s64 seconds | 8 s64 nanoseconds
 */
export function bootTime(): number {
  check('clock_gettime', libcClockGettime(CLOCK_BOOTTIME, time))
  // The seconds have 32 bits for 136 years.
  return view.getUint32(0, true) * 1000 + view.getUint32(8, true) / 1e6
}

/** How many clock ticks of procfs make a second. */
export const ticksPerSecond = (): number => Number(libcSysconf(SC_CLK_TCK))
