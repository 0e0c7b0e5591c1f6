/**
 * How much one container may have of what the host has `all` of: `most`, or one as soon as half of it is taken. So a few
 * containers in which everything hangs do not take it from the others.
 */
export const poolShare = (taken: number, all: number, most: number): number => (taken < all / 2 ? most : 1)
