/**
 * Returns how many of the host's `all` helpers one container may have: `most`, but 1 as soon as half of them are taken.
 * So a few containers in which every call hangs leave helpers for the other containers.
 */
export const poolShare = (taken: number, all: number, most: number): number => (taken < all / 2 ? most : 1)
