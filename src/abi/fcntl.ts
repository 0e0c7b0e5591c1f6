/** linux/fcntl.h: instead of a directory descriptor, the working directory. */
export const AT_FDCWD = -100
