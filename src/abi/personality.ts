/** linux/personality.h */
export const PER_LINUX = 0
