/** How many listeners and containers one engine can hold; more are refused at registration. */
export const LISTENERS = 4096
export const CONTAINERS = 1024
/** How many listeners are there for each container, whatever the others have; the rest is shared. */
export const OWN_LISTENERS = 2
export const SHARED_LISTENERS = LISTENERS - OWN_LISTENERS * CONTAINERS
/** How many mounters there may be, on the host and busy for one container; a hanging mounter counts until its end. */
export const MOUNTERS = 8
export const MOUNTERS_PER_CONTAINER = 2
/** How many walkers there may be, of 10 MB each. */
export const WALKERS = 64
