/** linux/limits.h: the longest path with its NUL. */
export const PATH_MAX = 4096

/**
 * The smallest page of the machines that we run on, of which any page is a multiple. What the kernel reads of a string
 * or of options is at least this much.
 */
export const PAGE = 4096

/** Of sysconf(3) of the C library: how many clock ticks of procfs make a second, and the size of a page. */
export const _SC_CLK_TCK = 2
export const _SC_PAGESIZE = 30
