/** How many listeners and containers one engine can hold; more are refused at registration. */
export const LISTENERS = 4096
export const CONTAINERS = 1024
/** How many listeners each container can have, whatever the others have; the rest is shared. */
export const OWN_LISTENERS = 2
export const SHARED_LISTENERS = LISTENERS - OWN_LISTENERS * CONTAINERS
/**
 * The most mounters on the host, and the most that are busy for one container. One that hangs counts for its container
 * until it ends, but for the host only as long as it has memory.
 */
export const MOUNTERS = 8
export const MOUNTERS_PER_CONTAINER = 2
/**
 * Once half of so many walkers, or so many mounters, hang without memory, each container may have one that hangs: it
 * still has 0.5 MB of page tables.
 */
export const MANY_HANG = 128
/** How many walkers there may be, of 10 MB each. */
export const WALKERS = 64

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
