/** linux/kcmp.h: compare two descriptors. */
export const KCMP_FILE = 0
