/**
 * Returns how many of the host's `all` helpers one container may have: `most`, but 1 as soon as half of them are taken.
 * So a few containers in which every call hangs leave helpers for the other containers.
 */
export const poolShare = (taken: number, all: number, most: number): number => (taken < all / 2 ? most : 1)

/**
 * Tells whether the owner of `mine` entries of a pool may take another: it may have at most a quarter of what is then
 * free. So however many owners take all they can, one after the other, each leaves four times as much as it has.
 */
export const leavesRoom = (mine: number, free: number): boolean => 4 * (mine + 1) < free
