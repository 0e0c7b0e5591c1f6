/** linux/time.h, linux/timerfd.h and linux/resource.h. */
export const CLOCK_MONOTONIC = 1
export const CLOCK_THREAD_CPUTIME_ID = 3
export const CLOCK_BOOTTIME = 7

export const TFD_CLOEXEC = 0o2000000

export const RUSAGE_THREAD = 1
