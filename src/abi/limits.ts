/** linux/limits.h: the longest path with its NUL. */
export const PATH_MAX = 4096
