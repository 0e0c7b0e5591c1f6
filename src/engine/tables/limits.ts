/** How many listeners and containers one engine can hold; more are refused at registration. */
export const LISTENERS = 4096
export const CONTAINERS = 1024
/** How many listeners each container can have, whatever the others have; the rest is shared. */
export const OWN_LISTENERS = 2
export const SHARED_LISTENERS = LISTENERS - OWN_LISTENERS * CONTAINERS
/**
 * The most mounters on the host, and the most that are busy for one container; a hanging mounter counts until it ends.
 */
export const MOUNTERS = 8
export const MOUNTERS_PER_CONTAINER = 2
/** How many walkers there may be, of 10 MB each. */
export const WALKERS = 64
